"""Worker processes: what fails says why, what works is measured."""

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dart_jax.bench.contest import contest, start, tune
from dart_jax.bench.jobs import Variant
from dart_jax.bench.prepare import random_job
from dart_jax.bench.train import add_utilisation, measure
from dart_jax.bench.worker import WorkerDied, memory_bytes
from dart_jax.model.config import LoraConfig
from tests.compiling import QUICKLY
from tests.tiny_model import CONFIG

ROOT = Path(__file__).parents[2]
# No micro-batch size, which the peer needs.
BROKEN = Variant("hf", "float32")


@pytest.fixture(scope="module")
def job():
    return random_job(CONFIG, rows=1, row_length=128, steps=2, epochs=2, lora=LoraConfig())


def test_a_variant_that_fails_is_reported_and_the_others_go_on(job, tmp_path, monkeypatch, capsys):
    pytest.importorskip("peft")
    # One device, and quick to compile.
    monkeypatch.setenv("XLA_FLAGS", QUICKLY)
    works = Variant("ours", "float32", 4, "layer")
    failed = {}
    [entry] = tune(job, [BROKEN, works], tmp_path, failed)
    assert list(failed) == ["hf-float32"]
    assert "ended in loading with exit status 1" in failed["hf-float32"]
    assert "TypeError" in failed["hf-float32"], "the end of the log"
    assert "hf-float32: failed" in capsys.readouterr().out
    assert (entry["variant"], entry["stage"]) == (works.name, "tuning")
    assert (entry["micro_batches_per_step"], entry["row_tokens"]) == (2, 64)
    assert entry["padded_tokens_per_second"] * entry["round_seconds"][0] == pytest.approx(256)
    assert entry["supervised_tokens_per_second"] * entry["round_seconds"][0] == pytest.approx(128)
    assert entry["matmul_flops_per_second"] > 1e8
    assert 3 < entry["losses"][0] < 6, "ln 67 = 4.2"


def test_when_every_variant_of_the_peer_fails_so_does_the_contest(job, tmp_path):
    ours = [Variant("ours", "float32")]
    with pytest.raises(WorkerDied, match="hf-float32 ended in loading"):
        contest(job, ours, [BROKEN], 1, tmp_path, refine=lambda _: [])


def test_a_killed_worker_is_named_with_its_signal(job, tmp_path):
    with start(job, Variant("ours", "float32"), tmp_path) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="ours-float32 ended in loading with signal 9"):
            worker.facts()


def test_a_peak_is_of_one_process_and_stays():
    """The counter of getrusage would begin with what the parent holds at the fork."""
    child = """
from dart_jax.bench.worker import memory_bytes
before = memory_bytes("VmHWM")
block = b"x" * 200_000_000
during = memory_bytes("VmHWM")
del block
print(before, during, memory_bytes("VmHWM"))"""
    parents = np.ones(2**25)  # 268 MB, touched
    done = subprocess.run(
        [sys.executable, "-c", child],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    before, during, after = map(int, done.stdout.split())
    assert before < parents.nbytes
    assert 190_000_000 < during - before < 210_000_000
    assert after > 0.99 * during


def test_anonymous_memory_is_seen():
    """A mapping of its own: an allocator may have as much at hand from earlier tests."""
    before = memory_bytes("RssAnon", os.getpid())
    with mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block[:] = bytes(len(block))
        assert memory_bytes("RssAnon", os.getpid()) - before > 0.9 * len(block)


@pytest.mark.slow
def test_a_large_job_tunes_both_sides_and_runs_one_after_the_other(job, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.setenv("XLA_FLAGS", QUICKLY)
    ours = [Variant("ours", "bfloat16", 8, "projections"), Variant("ours", "bfloat16", 4, "layer")]
    peers = [Variant("hf", "bfloat16", size, "layer") for size in (8, 4)]
    result = add_utilisation(measure(job, ours, peers, 8, tmp_path, large=True), job)
    assert set(result["ours"]["variants"]) == {variant.name for variant in ours}
    assert set(result["peers"]) == {variant.name for variant in peers}
    assert len(result["peers"][result["best_peer"]]["round_seconds"]) == job.sft.epochs == 2
    assert 0 < result["ours"]["utilisation"] < 1
    assert all(0 < entry["utilisation"] < 1 for entry in result["peers"].values())
