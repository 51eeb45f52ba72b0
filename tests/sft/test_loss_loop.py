"""Training with a loss of tokens: the log shows its parts, a restart goes on bitwise."""

import dataclasses

import jax
import numpy as np
import pytest

from dart_jax.sft.checkpoint import RefusedCheckpoint
from dart_jax.sft.config import LossConfig
from dart_jax.sft.loop import train
from tests.sft.test_loop import LORA, SFT, DisturbedExamples, Stopped, read_log, stop

LOSS = LossConfig(unlikelihood_weight=0.5, kl_weight=1.0)


@pytest.fixture(scope="module")
def examples(make_examples):
    sources = ("distill", "repair", "drifted")
    return [
        dataclasses.replace(example, source=sources[index % 3])
        for index, example in enumerate(make_examples(9, weights=(1.0, 2.0)))
    ]


@pytest.fixture(scope="module")
def run(model, lora_params):
    """A function: train in a folder; (adapters, log without speed)."""

    def go(examples, folder, loss=LOSS):
        initial = {name: lora_params[name] for name in LORA.targets}
        settings = {"lora": LORA, "sft": SFT, "epochs": 2, "learning_rate": 1e-2, "seed": 7}
        settings["base"] = {}
        found = train(examples, model, initial, folder, title="test", loss=loss, **settings)
        return found, read_log(folder)

    return go


@pytest.fixture(scope="module")
def finished(run, examples, tmp_path_factory):
    return run(examples, tmp_path_factory.mktemp("finished"))


def test_the_log_shows_the_parts(finished):
    _, log = finished
    assert len(log) == 6
    for line in log:
        assert set(line.loss_parts) == {"cross_entropy", "unlikelihood", "kl"}
        assert sum(line.loss_parts.values()) == pytest.approx(line.loss, rel=1e-5)
        assert set(line.loss_by_source) <= {"distill", "repair", "drifted"}
    # The reference is the adapter that the training started from, and stays it.
    assert abs(log[0].loss_parts["kl"]) < 1e-6
    assert log[-1].loss_parts["kl"] > 1e-4


def test_a_restart_goes_on_with_the_same_reference(finished, run, examples, tmp_path):
    disturbed = DisturbedExamples(examples, tmp_path / "log.jsonl", 4, stop)
    with pytest.raises(Stopped):
        run(disturbed, tmp_path)
    found, log = run(examples, tmp_path)
    assert log == finished[1]
    jax.tree.map(np.testing.assert_array_equal, found, finished[0])


def test_another_loss_does_not_go_on_from_a_checkpoint(run, examples, tmp_path):
    disturbed = DisturbedExamples(examples, tmp_path / "log.jsonl", 4, stop)
    with pytest.raises(Stopped):
        run(disturbed, tmp_path)
    for other in (LossConfig(), dataclasses.replace(LOSS, kl_weight=2.0)):
        with pytest.raises(RefusedCheckpoint):
            run(examples, tmp_path, other)
