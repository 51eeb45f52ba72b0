"""Processes that die say why."""

import pytest

from dart_jax.bench.job import Variant
from dart_jax.bench.worker import Worker, WorkerDied


def test_an_error_in_the_worker_is_in_the_message(tmp_path):
    (tmp_path / "job.json").write_text('{"model": 3}', encoding="utf-8")
    with (
        Worker(tmp_path / "job.json", Variant("hf", "float32", 1), tmp_path) as worker,
        pytest.raises(WorkerDied, match="hf-float32-b1 ended in describe with exit status 1") as e,
    ):
        worker.describe()
    assert "ValidationError" in str(e.value)
    assert "adapter" in str(e.value), "the missing field is named at the end of the log"


def test_a_killed_worker_is_named_with_its_signal(tmp_path):
    with Worker(tmp_path / "job.json", Variant("ours", "float32"), tmp_path) as worker:
        worker._process.kill()
        with pytest.raises(WorkerDied, match="ours-float32 ended in warm_up with signal 9"):
            worker.warm_up()
