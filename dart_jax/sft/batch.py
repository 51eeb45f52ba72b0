"""Rows of arrays, made from examples: a row each, or several packed into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from dart_jax.model.attention import SHARED
from dart_jax.model.packed_attention import Layout
from dart_jax.sft.examples import SOURCES, Example


class Batch(NamedTuple):
    """One micro-batch; B rows of T tokens.

    A loss weight is that of the example times that of the token (`Example.token_weights`, or 1).
    Aligned, for the prompts `p q` and `p r` with the completions `x y .` of weight 2 and `z .` of
    weight 1, padded to T = 8; first the rows of packing `none`, then the one of `shared_prefix`:

        tokens        p  q  x  y  .  0  0  0    p  r  z  .  0  0  0  0
        targets       q  x  y  .  0  0  0  0    r  z  .  0  0  0  0  0
        loss_weights  0  2  2  2  0  0  0  0    0  1  1  0  0  0  0  0
        positions     0  1  2  3  4  0  0  0    0  1  2  3  0  0  0  0
        segment_ids   1  1  1  1  1  0  0  0    1  1  1  1  0  0  0  0

        tokens        p  q  x  y  .  r  z  .
        targets       0  x  y  .  0  z  .  0
        loss_weights  0  2  2  2  0  1  1  0
        positions     0  1  2  3  4  1  2  3
        segment_ids  -1  1  1  1  1  2  2  2
    """

    tokens: Int[Array, "B T"]
    targets: Int[Array, "B T"]
    loss_weights: Float[Array, "B T"]
    positions: Int[Array, "B T"]
    segment_ids: Int[Array, "B T"]


class OriginBatch(NamedTuple):
    """A `Batch` with what a loss of tokens (`sft.token_losses`) may look at, too.

    Attributes:
        sources: Index in `SOURCES` of each segment's source; the first segment has id 1.
        severities: Its severity; 0 for none.
        pairs: Number of its pair in the row, from 1: the id of the pair's first segment; 0: none.
    """

    tokens: Int[Array, "B T"]
    targets: Int[Array, "B T"]
    loss_weights: Float[Array, "B T"]
    positions: Int[Array, "B T"]
    segment_ids: Int[Array, "B T"]
    sources: Int[Array, "B S"]
    severities: Int[Array, "B S"]
    pairs: Int[Array, "B S"]


AnyBatch = Batch | OriginBatch


@dataclass(frozen=True)
class StepBatch:
    """The input of one optimizer step.

    Attributes:
        batch: Numpy arrays with a leading micro-batch axis, [A, B, T].
        layout: The static half; every micro-batch has the same.
        examples: int32 [A, B, S], which of the training set's examples each segment is; -1: none.
    """

    batch: Batch
    layout: Layout
    examples: np.ndarray


def with_origins(step: StepBatch, examples: Sequence[Example]) -> OriginBatch:
    """A step's arrays with the source, the severity and the pair of each segment."""
    sources = np.zeros_like(step.examples)
    severities = np.zeros_like(step.examples)
    pairs = np.zeros_like(step.examples)
    for place, index in np.ndenumerate(step.examples):
        if index < 0:
            continue
        example = examples[index]
        sources[place] = SOURCES.index(example.source)
        severities[place] = example.severity or 0
        if example.pair:
            row = [examples[i].pair for i in step.examples[place[:2]] if i >= 0]
            pairs[place] = row.index(example.pair) + 1
    return OriginBatch(*step.batch, sources, severities, pairs)


def shared_prefix(examples: Sequence[Example]) -> int:
    """Leading tokens that all prompts have in common, without the last one of any prompt.

    That last token predicts the completion's first, so it belongs to the example.
    """
    first = examples[0].tokens
    limit = min(example.prompt_length for example in examples) - 1
    for index in range(limit):
        if any(example.tokens[index] != first[index] for example in examples):
            return index
    return max(limit, 0)


def fill_row(examples: Sequence[Example], prefix: int, length: int) -> Batch:
    """Examples side by side after their first `prefix` tokens, which they share (see `Batch`)."""
    row = Batch(*(np.zeros(length, np.int32) for _ in range(5)))
    row = row._replace(loss_weights=np.zeros(length, np.float32))
    # A row without examples is padding throughout: a prefix would be counted as real tokens.
    if examples:
        row.tokens[:prefix] = examples[0].tokens[:prefix]
        row.positions[:prefix] = np.arange(prefix)
        row.segment_ids[:prefix] = SHARED

    start = prefix
    # From 1: segment 0 is padding.
    for segment, example in enumerate(examples, 1):
        own = example.tokens[prefix:]
        end = start + len(own)
        row.tokens[start:end] = own
        row.targets[start : end - 1] = own[1:]
        row.positions[start:end] = np.arange(prefix, len(example.tokens))
        row.segment_ids[start:end] = segment

        # The position before the completion predicts its first token; the last predicts nothing.
        supervised = slice(start + example.prompt_length - 1 - prefix, end - 1)
        row.loss_weights[supervised] = example.weight
        if example.token_weights is not None:
            row.loss_weights[supervised] *= np.asarray(example.token_weights, np.float32)
        start = end
    return row


def make_step_batch(
    examples: Sequence[Example],
    micro_batches: Sequence[Sequence[Sequence[int]]],
    length: int,
    layout: Layout,
) -> StepBatch:
    """Make the arrays of one step.

    Args:
        micro_batches: Which examples are in each row of each micro-batch, as indices.
        length: Tokens of a row, T.
    """
    rows = [
        fill_row([examples[i] for i in row], layout.prefix, length)
        for micro_batch in micro_batches
        for row in micro_batch
    ]
    # The plan gives every micro-batch as many rows, empty ones included.
    shape = len(micro_batches), len(micro_batches[0])
    arrays = [np.stack(column).reshape(*shape, length) for column in zip(*rows, strict=True)]

    segment_examples = np.full((*shape, layout.segments), -1, np.int32)
    for a, micro_batch in enumerate(micro_batches):
        for b, row in enumerate(micro_batch):
            segment_examples[a, b, : len(row)] = row
    return StepBatch(Batch(*arrays), layout, segment_examples)
