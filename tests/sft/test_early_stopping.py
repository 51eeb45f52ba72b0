"""Early stopping ends where it should and keeps the best adapter, also when it was interrupted."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.config import LoraConfig
from dart_jax.records import read_jsonl
from dart_jax.sft.checkpoint import RefusedCheckpoint
from dart_jax.sft.config import SftConfig
from dart_jax.sft.early_stopping import best_of
from dart_jax.sft.loop import train
from dart_jax.sft.metrics import LogLine, NonFiniteLoss
from dart_jax.sft.validation import Schedule, read_validation
from tests.sft.test_loop import DisturbedExamples, Stopped, compile_once, stop

__all__ = ["compile_once"]

LORA = LoraConfig(rank=4, alpha=12.0, dropout=0.0, targets=("q", "down"))
PLAIN = SftConfig(
    batch_size=2,
    loss_chunk=8,
    remat="none",
    checkpoint_every=2,
    validation_share=0.2,
    validate_every=1,
)
STOPPED = dataclasses.replace(PLAIN, early_stopping=2)
EPOCHS, STEPS = 4, 12  # of six examples


def adapter(value):
    return {"q": {"A": jnp.full(2, value), "B": jnp.full(2, value)}}


def test_the_least_loss_is_the_best_and_of_equal_ones_the_first():
    best = None
    for step, loss in enumerate([3.0, 2.0, 2.0, 2.5, 1.5]):
        best = best_of(best, step, loss, adapter(step))
        if step == 3:
            assert best.figures() == {"step": 1, "loss": 2.0, "since": 2}
            np.testing.assert_array_equal(best.adapter["q"]["A"], [1, 1])
    assert (best.step, best.since) == (4, 0)


def test_when_a_loss_is_measured():
    assert [s for s in range(1, 12) if Schedule(11, 4, None).due(s)] == [4, 8, 11]
    assert [s for s in range(1, 12) if Schedule(11, 4, 3).due(s)] == [3, 4, 6, 8, 9, 11]


def test_measurements_that_stop_nothing_are_no_matter_of_identity():
    share = SftConfig(validation_share=0.2)
    assert PLAIN.identity() == dataclasses.replace(PLAIN, validate_every=None).identity()
    assert not {"early_stopping", "validate_every"} & share.identity().keys()
    assert STOPPED.identity() != dataclasses.replace(STOPPED, validate_every=3).identity()


@pytest.fixture(scope="module")
def run(model, lora_params):
    """A function: train in a folder; returns the adapter and the held-out losses by step."""

    def go(examples, folder, held_out, sft=STOPPED, initial=None):
        found = train(
            examples,
            model,
            initial or {name: lora_params[name] for name in LORA.targets},
            folder,
            base={},
            lora=LORA,
            sft=sft,
            epochs=EPOCHS,
            learning_rate=0.05,
            seed=3,
            title="test",
            held_out=held_out,
        )
        return found, [line.loss for line in read_validation(folder)]

    return go


@pytest.fixture(scope="module")
def examples(make_examples):
    """Six to train on, and two that they do not help with: the loss of these soon rises."""
    made = make_examples(8)
    return made[:6], made[6:]


@pytest.fixture(scope="module")
def stopped(run, examples, tmp_path_factory):
    """(adapter, held-out losses, folder) of a training that nothing but its losses stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    return *run(examples[0], folder, examples[1]), folder


def test_it_ends_by_its_patience_with_the_adapter_of_the_least_loss(
    run, examples, stopped, tmp_path, capsys
):
    adapter, losses, folder = stopped
    least = int(np.argmin(losses))
    assert len(losses) == least + 3 <= STEPS, "two measurements follow the least, and no step"
    assert [line.step for line in read_jsonl(folder / "log.jsonl", LogLine)] == [
        *range(1, least + 3)
    ]

    # Were it not to stop, the losses would be the same as far as it came.
    _, whole = run(examples[0], tmp_path / "whole", examples[1], PLAIN)
    assert whole[: len(losses)] == losses and len(whole) == STEPS + 1

    # Trained on from there, the first measurement is of the adapter itself.
    _, again = run(examples[0], tmp_path / "again", examples[1], PLAIN, initial=adapter)
    assert again[0] == losses[least]

    # A start that was killed before the adapter was saved finds the same one, and trains nothing.
    capsys.readouterr()
    found, same = run(examples[0], folder, examples[1])
    assert same == losses
    jax.tree.map(np.testing.assert_array_equal, found, adapter)
    said = capsys.readouterr().out
    assert "test: nothing left to train" in said
    assert (
        f"stopped early after step {least + 2} of 12; the adapter is that of step {least}" in said
    )


def test_interrupted_it_ends_at_the_same_step_with_the_same_adapter(
    run, examples, stopped, tmp_path
):
    """Stopped after each line of the log: before and after the least loss, and every checkpoint."""
    adapter, losses, _ = stopped
    for lines in range(1, len(losses) - 1):
        disturbed = DisturbedExamples(examples[0], tmp_path / "log.jsonl", lines, stop)
        with pytest.raises(Stopped):
            run(disturbed, tmp_path, examples[1])
    found, same = run(examples[0], tmp_path, examples[1])
    assert same == losses
    jax.tree.map(np.testing.assert_array_equal, found, adapter)


def test_another_patience_or_other_held_out_examples_are_another_training(run, examples, stopped):
    for sft, held_out, named in (
        (dataclasses.replace(STOPPED, early_stopping=3), examples[1], "patience is 2, not 3"),
        (STOPPED, examples[1][:1], "early_stopping.held_out is "),
        (PLAIN, examples[1], "early_stopping is .*, not null"),
    ):
        with pytest.raises(RefusedCheckpoint, match=named):
            run(examples[0], stopped[2], held_out, sft)


def test_a_damaged_best_adapter_is_refused(run, examples, stopped, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(stopped[2], folder)
    newest = max((folder / "checkpoint").iterdir(), key=lambda path: int(path.name))
    label = newest / "label" / "metadata"
    written = json.loads(label.read_text())
    written["best"]["checksum"] += 1
    label.write_text(json.dumps(written))
    with pytest.raises(RefusedCheckpoint, match="the checksum of its best adapter does not match"):
        run(examples[0], folder, examples[1])


def test_a_held_out_loss_that_is_no_number_chooses_nothing(run, examples, tmp_path):
    heavy = [dataclasses.replace(example, weight=3e38) for example in examples[1]]
    with pytest.raises(NonFiniteLoss, match=r"step 0: loss .* sft\.early_stopping cannot choose"):
        run(examples[0], tmp_path, heavy)


def test_a_stage_without_held_out_examples_trains_all_steps(run, examples, tmp_path):
    _, losses = run(examples[0], tmp_path, [])
    assert losses == []
    assert len(read_jsonl(tmp_path / "log.jsonl", LogLine)) == STEPS
