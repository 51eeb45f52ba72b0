"""Workers on random weights: what fails is reported, what works is measured."""

import pytest

from dart_jax.bench.job import Variant
from dart_jax.bench.prepare import random_job
from dart_jax.bench.rounds import tune
from dart_jax.bench.worker import WorkerDied
from dart_jax.model.config import LoraConfig
from tests.compiling import QUICKLY

UNKNOWN = Variant("theirs", "float32")


@pytest.fixture(scope="module")
def job(tiny_config):
    return random_job(tiny_config, rows=1, row_length=128, steps=2, epochs=2, lora=LoraConfig())


def test_a_variant_that_fails_is_reported_and_the_others_go_on(job, tmp_path, monkeypatch):
    # One device, and quick to compile.
    monkeypatch.setenv("XLA_FLAGS", QUICKLY)
    said = []
    works = Variant("ours", "float32", 4, "layer")
    [measured], failed = tune(job, [UNKNOWN, works], tmp_path, said.append)
    assert list(failed) == ["theirs-float32"]
    assert "framework" in failed["theirs-float32"]
    assert ["failed" in line for line in said] == [True, False]
    assert measured.variant == works
    description = measured.description
    assert (description["micro_batches_per_step"], description["row_tokens"]) == (2, 64)
    [one] = measured.rounds
    assert (one.examples, one.real_tokens, one.supervised_tokens) == (16, 256, 128)
    assert one.padded_tokens == 256
    assert 3 < one.loss < 6, "ln 67 = 4.2"


def test_when_every_variant_fails_so_does_tuning(job, tmp_path):
    with pytest.raises(WorkerDied, match="theirs-float32 ended in describe"):
        tune(job, [UNKNOWN], tmp_path, lambda _: None)


def test_the_peer_with_gradient_checkpointing_and_a_fresh_adapter(job):
    pytest.importorskip("peft")
    from dart_jax.bench.hf_train import open_session

    session = open_session(job, Variant("hf", "bfloat16", 4, "layer"))
    session.warm_up()
    first, second = session.round(0), session.round(1)
    assert (first.examples, first.real_tokens, first.supervised_tokens) == (16, 256, 128)
    assert first.padded_tokens == 256
    assert first.peak_device_bytes is None
    assert second.peak_rss_bytes >= first.peak_rss_bytes > 10_000_000
    assert second.loss < first.loss < 5, "ln 67 = 4.2"
    assert session.describe()["gradient_checkpointing"]
    assert session.describe()["adapter_dtype"] == "float32"
    assert session.matmul_rate() > 1e8
