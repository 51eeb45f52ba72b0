"""The peer's ways to train: their micro-batches and tensors, and that all train alike."""

import dataclasses
import shutil
from itertools import chain

import numpy as np
import pytest

from dart_jax.bench import hf_train
from dart_jax.bench.jobs import TrainJob, Variant
from dart_jax.bench.peer_batches import (
    block_mask,
    epoch_positions,
    epoch_steps,
    padded,
    sorted_pieces,
    tensors,
)
from dart_jax.bench.prepare import random_job, with_rates
from dart_jax.model.config import LoraConfig
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from tests.tiny_model import CONFIG

LENGTHS = (12, 30, 9, 21, 17, 8)


@pytest.fixture(scope="module")
def job():
    """Two epochs of one step over examples of several lengths, without dropout."""
    draw, examples = np.random.default_rng(0), []
    for length in LENGTHS:
        tokens = tuple(draw.integers(1, CONFIG.vocab_size, length).tolist())
        examples.append(Example(f"e{length}", tokens, length // 3, 1.0))
    sft = SftConfig(epochs=2, batch_size=len(LENGTHS), learning_rate=1e-2)
    lora = LoraConfig(dropout=0.0)
    config = dataclasses.replace(CONFIG, num_layers=3)
    return with_rates(TrainJob(config, None, tuple(examples), lora, sft, (), 0))


def losses(job, kind, dtype="float32"):
    """Collect the rounds of both epochs, and the session's facts."""
    session = hf_train.Training(job, Variant("hf", dtype, 3, kind=kind))
    return [session.round(epoch).result.loss for epoch in range(2)], session.facts()


@pytest.fixture(scope="module")
def plain(job):
    pytest.importorskip("peft")
    found, facts = losses(job, "plain")
    assert found[0] - found[1] > 1e-3, "the update must have an effect"
    assert facts["logits"] == "all positions" and facts["packing"] == "none"
    return found


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("supervised", ("logits", "supervised positions")),
        ("packed", ("packing", "segments")),
        # The first layer's input has no gradient; all others share one program.
        pytest.param("packed_compiled", ("compiled_graphs", 2), marks=pytest.mark.slow),
    ],
)
def test_all_ways_to_train_are_the_same_training(job, plain, kind, fact):
    if kind == "packed_compiled" and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    found, facts = losses(job, kind)
    assert found == pytest.approx(plain, rel=1e-5)
    assert facts[fact[0]] == fact[1]
    assert facts["adapter_dtype"] == "float32"


@pytest.mark.parametrize(
    ("kind", "dtype", "adapter"),
    [("autocast", "float32", "float32"), ("adapter", "bfloat16", "bfloat16")],
)
def test_training_in_bfloat16_is_the_same_but_for_rounding(job, plain, kind, dtype, adapter):
    found, facts = losses(job, kind, dtype)
    assert found == pytest.approx(plain, rel=2e-2) and found != plain
    assert facts["adapter_dtype"] == adapter and facts["autocast"] == (kind == "autocast")


def test_padded_micro_batches_are_cut_from_sorted_lengths(job):
    lengths = [[len(e.tokens) for [e] in piece] for piece in sorted_pieces(job.examples, 4)]
    assert lengths == [[30, 21, 17, 12], [9, 8]]
    assert epoch_positions(job, Variant("hf", "float32", 3)) == 3 * 30 + 3 * 12


def test_packed_rows_hold_every_example_of_a_step_once(job):
    job = dataclasses.replace(job, sft=dataclasses.replace(job.sft, batch_size=4))
    variant = Variant("hf", "float32", 2, kind="packed")
    for epoch in (0, 1):
        steps = epoch_steps(job, variant, epoch)
        assert len(steps) == job.steps_per_epoch == 2
        rows = chain.from_iterable(chain.from_iterable(steps))
        assert sorted(len(e.tokens) for row in rows for e in row) == sorted(LENGTHS)
    # All fit rows of one micro-batch each, so that nothing is padded.
    assert epoch_positions(job, variant) == sum(LENGTHS)


def test_completions_are_labelled_and_padding_is_masked():
    pytest.importorskip("torch")
    assert padded([(1, 2, 3), (4,)], 9, "left").tolist() == [[1, 2, 3], [9, 9, 4]]
    long, short = Example("a", (1, 2, 3, 4), 2, 1.0), Example("b", (1, 2), 1, 1.0)
    batch = tensors([[long], [short]], packed=False)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[1, 2, 3, 4], [1, 2, 0, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
        "labels": [[-100, -100, 3, 4], [-100, 2, -100, -100]],
    }


def test_packed_examples_restart_and_do_not_see_each_other():
    torch = pytest.importorskip("torch")
    long, short = Example("a", (1, 2, 3, 4), 2, 1.0), Example("b", (1, 2), 1, 1.0)
    batch = tensors([[long, short], [short]], packed=True)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert batch["labels"][0].tolist() == [-100, -100, 3, 4, -100, 2]
    assert batch["attention_mask"].shape == (2, 1, 6, 6)
    seen = block_mask(torch.tensor([[1, 1, 2, 0]]))
    assert seen.int().tolist() == [[[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]]


def test_the_peer_trains_with_gradient_checkpointing_and_a_fresh_adapter():
    pytest.importorskip("peft")
    lora = LoraConfig()
    job = random_job(CONFIG, rows=1, row_length=128, steps=2, epochs=2, lora=lora)
    session = hf_train.Training(job, Variant("hf", "bfloat16", 4, "layer"))
    first, second = session.round(0), session.round(1)
    assert first.result.padded_tokens == 256 and first.peak_device_bytes is None
    assert second.peak_rss_bytes >= first.peak_rss_bytes > 10_000_000
    assert second.result.loss < first.result.loss < 5, "ln 67 = 4.2"
    assert session.facts()["gradient_checkpointing"]
    assert session.facts()["adapter_dtype"] == "float32"
