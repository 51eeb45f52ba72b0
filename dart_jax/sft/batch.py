"""Examples become arrays: batches in a deterministic order, padded to few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from dart_jax.sft.examples import Example

# Lengths are rounded up to these, so that a run compiles a handful of shapes.
LENGTH_BUCKET = 64
SUPERVISED_BUCKET = 32
# Batches are cut from length-sorted windows of this many batches: little padding, random order.
WINDOW = 8


class Batch(NamedTuple):
    """One micro-batch; B rows of T tokens.

    Aligned, for a prompt `p q` with the completion `x y .` of weight 2, padded to T = 6:

        tokens        p  q  x  y  .  0
        targets       q  x  y  .  0  0
        loss_weights  0  2  2  2  0  0
        positions     0  1  2  3  4  0
        segment_ids   1  1  1  1  1  0
    """

    tokens: Int[Array, "B T"]
    targets: Int[Array, "B T"]
    loss_weights: Float[Array, "B T"]
    positions: Int[Array, "B T"]
    segment_ids: Int[Array, "B T"]


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step consumes.

    Attributes:
        batch: Arrays with a leading micro-batch axis, [A, B, T].
        supervised: Static bound M on the supervised positions of a row.
        ids: Ids of the examples in it, for messages.
    """

    batch: Batch
    supervised: int
    ids: tuple[str, ...]


def fill_row(example: Example, length: int) -> Batch:
    """One example as a row of `length` tokens (see `Batch`)."""
    n = len(example.tokens)
    row = Batch(*(np.zeros(length, np.int32) for _ in range(5)))
    weights = np.zeros(length, np.float32)
    row.tokens[:n] = example.tokens
    row.targets[: n - 1] = example.tokens[1:]
    weights[example.prompt_length - 1 : n - 1] = example.weight
    row.positions[:n] = np.arange(n)
    row.segment_ids[:n] = 1
    return row._replace(loss_weights=weights)


def epoch_batches(
    examples: Sequence[Example], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Indices of each batch of one epoch: every example once, the last batch may be short.

    Depends on (examples, batch_size, seed, epoch) only, so that any process and any resumed run
    sees the same batches.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(examples))
    batches: list[list[int]] = []
    window = WINDOW * batch_size
    for start in range(0, len(order), window):
        piece = sorted(order[start : start + window], key=lambda i: (len(examples[i].tokens), i))
        batches += [piece[i : i + batch_size] for i in range(0, len(piece), batch_size)]
    return [[int(i) for i in batches[b]] for b in rng.permutation(len(batches))]


def make_step_batch(examples: Sequence[Example], batch_size: int, micro_batches: int) -> StepBatch:
    """Stack at most `batch_size` examples into [A, B, T]; missing rows are empty (weight 0)."""
    length = _round_up(max(len(e.tokens) for e in examples), LENGTH_BUCKET)
    supervised = max(len(e.tokens) - e.prompt_length for e in examples)
    rows = [fill_row(example, length) for example in examples]
    empty = Batch(*(np.zeros_like(array) for array in rows[0]))
    rows += [empty] * (batch_size - len(rows))
    stacked = Batch(
        *(
            np.stack(arrays).reshape(micro_batches, batch_size // micro_batches, length)
            for arrays in zip(*rows, strict=True)
        )
    )
    bound = min(_round_up(supervised, SUPERVISED_BUCKET), length)
    return StepBatch(stacked, bound, tuple(e.id for e in examples))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
