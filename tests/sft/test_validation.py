"""The loss of held-out examples: that of a training step with them, and without any effect."""

import dataclasses

import jax
import numpy as np
import pytest

from dart_jax.append_only import append_jsonl
from dart_jax.model.config import LoraConfig
from dart_jax.records import read_jsonl
from dart_jax.sft.config import SftConfig
from dart_jax.sft.loop import train
from dart_jax.sft.metrics import LogLine
from dart_jax.sft.packing import NothingSupervised
from dart_jax.sft.validation import VALIDATION, ValidationLine

LORA = LoraConfig(rank=4, alpha=12.0, dropout=0.0)


@pytest.fixture(scope="module")
def run(model, lora_params):
    """A function: train two epochs of one step each; returns adapters, log and validation."""

    def go(examples, folder, held_out=()):
        adapter = train(
            examples,
            model,
            {name: lora_params[name] for name in LORA.targets},
            folder,
            base={},
            lora=LORA,
            sft=SftConfig(batch_size=8, warmup_share=0.0),
            epochs=2,
            learning_rate=1e-2,
            seed=0,
            title="test",
            held_out=held_out,
        )
        path = folder / VALIDATION
        lines = read_jsonl(path, ValidationLine) if path.exists() else []
        return adapter, read_jsonl(folder / "log.jsonl", LogLine), lines

    return go


def test_the_loss_is_that_of_a_step_and_changes_nothing(run, make_examples, tmp_path):
    """Were the training examples held out, each measurement is the loss of the next step."""
    examples = make_examples(8, weights=(1.0, 3.0))
    plain, log, nothing = run(examples, tmp_path / "plain")
    assert nothing == [] and not (tmp_path / "plain" / VALIDATION).exists()
    adapter, same_log, lines = run(examples, tmp_path / "validated", held_out=examples)
    assert [(line.step, line.epoch, line.examples) for line in lines] == [
        (0, 0, 8),
        (1, 1, 8),
        (2, 2, 8),
    ]
    np.testing.assert_allclose(
        [line.loss for line in lines[:2]], [step.loss for step in log], rtol=1e-5
    )
    assert lines[2].loss < lines[1].loss < lines[0].loss
    assert [step.loss for step in same_log] == [step.loss for step in log]
    jax.tree.map(np.testing.assert_array_equal, adapter, plain)

    # What a killed start measured after its last checkpoint goes; the rest stays.
    beyond = dataclasses.replace(lines[2], step=3)
    append_jsonl(tmp_path / "validated" / VALIDATION, [beyond])
    assert run(examples, tmp_path / "validated", held_out=examples)[2] == lines

    # So does what one measured that was killed before its first checkpoint.
    (tmp_path / "killed").mkdir()
    append_jsonl(tmp_path / "killed" / VALIDATION, lines[:1])
    assert run(examples, tmp_path / "killed", held_out=examples)[2] == lines


def test_held_out_examples_that_all_weigh_nothing_are_refused(run, make_examples, tmp_path):
    with pytest.raises(NothingSupervised, match=r"sft\.validation_share: no token"):
        run(make_examples(8), tmp_path, held_out=make_examples(2, weights=(0.0,)))
