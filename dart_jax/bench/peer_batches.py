"""The peer's micro-batches: the examples of each row, and the tensors that its model takes.

Padded, the length-sorted examples are cut into pieces, which come in random order: less padding
than the library's own length grouping has. Packed, the rows are those of our own plan with
`sft.packing: segments`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dart_jax.bench.jobs import TrainJob, Variant
from dart_jax.sft.examples import Example
from dart_jax.sft.packing import make_plan

IGNORED = -100
# The mask of blocks hides other examples, but their scores are computed: long rows cost more.
PACKED_ROW = 512

Row = list[Example]
MicroBatch = list[Row]


def epoch_steps(job: TrainJob, variant: Variant, epoch: int) -> list[list[MicroBatch]]:
    """The micro-batches of each optimizer step of an epoch."""
    if variant.settings.packed:
        return _packed_steps(job, variant.batch, epoch)

    pieces = sorted_pieces(job.examples, variant.batch)
    order = np.random.default_rng([job.seed, epoch]).permutation(len(pieces))
    per_step = job.sft.batch_size // variant.batch
    steps = []
    for start in range(0, len(order), per_step):
        steps.append([pieces[index] for index in order[start : start + per_step]])
    return steps


def sorted_pieces(examples: Sequence[Example], size: int) -> list[MicroBatch]:
    """Length-sorted examples, one a row, in pieces of `size`, the last of them short."""
    ordered = sorted(examples, key=lambda example: len(example.tokens), reverse=True)
    rows = [[example] for example in ordered]
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _packed_steps(job: TrainJob, size: int, epoch: int) -> list[list[MicroBatch]]:
    longest = max(len(example.tokens) for example in job.examples)
    sft = dataclasses.replace(
        job.sft, packing="segments", micro_batch_size=size, row_length=max(longest, PACKED_ROW)
    )
    plan = make_plan(job.examples, sft, epochs=epoch + 1, seed=job.seed)

    steps = []
    for planned in plan.steps[epoch * job.steps_per_epoch :]:
        step = []
        for micro_batch in planned.micro_batches:
            # Our plan fills up with empty rows, so that every micro-batch has the same shape.
            rows = [[job.examples[index] for index in row] for row in micro_batch if row]
            step += [rows] if rows else []
        steps.append(step)
    return steps


def row_length(row: Row) -> int:
    """Tokens of all its examples."""
    return sum(len(example.tokens) for example in row)


def positions(micro_batch: MicroBatch) -> int:
    """Positions that a micro-batch computes, padding included."""
    return len(micro_batch) * max(row_length(row) for row in micro_batch)


def epoch_positions(job: TrainJob, variant: Variant) -> int:
    """Positions that the first epoch computes."""
    steps = epoch_steps(job, variant, 0)
    return sum(positions(micro_batch) for step in steps for micro_batch in step)


def tensors(micro_batch: MicroBatch, *, packed: bool) -> dict[str, Any]:
    """Right-padded tensors [B, T] for the model's keyword arguments.

    For a row of the prompt `p q` with the completion `x y`, and of `r` with `z`, padded to T = 8:

        input_ids       p    q    x    y    r    z    0    0
        labels       -100 -100    x    y -100    z -100 -100
        position_ids    0    1    2    3    0    1    0    0    packed only
        attention_mask  1    1    1    1    1    1    0    0    [B, T], or [B, 1, T, T] when packed:
                                                                see `block_mask`
    """
    tokens, labels, order, numbers = [], [], [], []
    for row in micro_batch:
        tokens.append([token for example in row for token in example.tokens])
        labels.append([label for example in row for label in _labels(example)])
        order.append([index for example in row for index in range(len(example.tokens))])
        numbers.append([n for n, example in enumerate(row, 1) for _ in example.tokens])

    batch = {"input_ids": padded(tokens, 0), "labels": padded(labels, IGNORED)}
    segments = padded(numbers, 0)
    if not packed:
        return batch | {"attention_mask": (segments > 0).long()}
    return batch | {"position_ids": padded(order, 0), "attention_mask": block_mask(segments)}


def _labels(example: Example) -> list[int]:
    prompt = example.prompt_length
    return [*[IGNORED] * prompt, *example.tokens[prompt:]]


def block_mask(segments: Any) -> Any:
    """Boolean [B, 1, T, T]: a token sees those of its own segment up to itself.

    For the segments `1 1 2 0`, a row a query; padding sees itself, since a query without any key
    would have no softmax:

        1 0 0 0
        1 1 0 0
        0 0 1 0
        0 0 0 1
    """
    same = segments[:, :, None] == segments[:, None, :]
    return same.tril()[:, None]


def padded(rows: Sequence[Sequence[int]], value: int, side: str = "right") -> Any:
    """Rows of token ids as one int64 tensor [B, T], filled up with a value."""
    import torch

    sequences = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(sequences, True, value, side)
