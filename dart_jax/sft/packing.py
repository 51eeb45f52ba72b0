"""Plan a whole training run: the step, micro-batch and row of each example.

The plan is made before the first step, from the examples, the settings and the seed alone: every
process and every resumed run has the same one. Which examples form a step depends on neither
micro-batches nor devices. How they share rows does, and with `sft.micro_batch_tokens` in which
micro-batch each is, too.

The two texts of a pair (`preference`) share a row and count as one example. Below, a pair is named
by the index of its first text, and `members` has, for each index, those of all its texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dart_jax.model.packed_attention import Layout
from dart_jax.records import digest
from dart_jax.sft.batch import StepBatch, make_step_batch, shared_prefix
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example, members_of_pairs
from dart_jax.sft.row_shapes import (
    LENGTH_BUCKET,
    Rows,
    Units,
    choose_rows,
    round_up,
    snake_draft,
)

# Sizes of a shape's parts are rounded up to these.
SLOT_BUCKET = 32
SUPERVISED_BUCKET = 32
# Batches are made from windows of this many: examples are sorted by length within one, and the
# order of examples and of batches stays random.
WINDOW = 8


class NothingSupervised(ValueError):
    """A step has nothing to learn from; the message names it and its examples."""


@dataclass(frozen=True)
class PlannedStep:
    """One step: the examples in each row of each micro-batch, and the arrays' shape."""

    micro_batches: list[Rows]
    length: int
    layout: Layout


@dataclass(frozen=True)
class Plan:
    """All steps of a training run; `plan[i]` makes the arrays of one."""

    examples: Sequence[Example] = field(repr=False)
    steps: list[PlannedStep] = field(repr=False)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> StepBatch:
        planned = self.steps[step]
        return make_step_batch(self.examples, planned.micro_batches, planned.length, planned.layout)

    def ids(self, step: int) -> list[str]:
        """Ids of a step's examples, for messages."""
        rows = (row for micro_batch in self.steps[step].micro_batches for row in micro_batch)
        return [self.examples[i].id for row in rows for i in row]

    def check_supervised(self) -> None:
        """Raise NothingSupervised for a step none of whose tokens has a weight.

        Its loss would be 0 over 0. A micro-batch without any, in a step that has some, is fine.
        """
        supervised = [example.is_supervised for example in self.examples]
        for number, step in enumerate(self.steps, 1):
            rows = (row for micro_batch in step.micro_batches for row in micro_batch)
            if any(supervised[i] for row in rows for i in row):
                continue
            raise NothingSupervised(
                f"step {number}: no token of its examples has a loss weight above 0: "
                f"{', '.join(self.ids(number - 1))}. Give them a weight (in your own rows weight "
                "and token_weights; repair.span_weight), leave them out, or raise sft.batch_size"
            )

    def digest(self) -> str:
        """Identifies the examples and which of them form each step, in order.

        Not how a step is cut into micro-batches and rows: its gradient is a sum over its examples,
        so that a training may go on with other micro-batches, rows and devices.
        """
        order = [
            sorted(i for micro_batch in step.micro_batches for row in micro_batch for i in row)
            for step in self.steps
        ]
        facts = [(e.tokens, e.prompt_length, e.weight, e.token_weights) for e in self.examples]
        return digest([facts, order])

    def shapes(self) -> Counter[tuple[int, int, int, Layout]]:
        """Count the steps of each program: micro-batches, rows, tokens of a row, and layout."""
        return Counter(
            (len(step.micro_batches), len(step.micro_batches[0]), step.length, step.layout)
            for step in self.steps
        )

    def summary(self) -> str:
        """Say which programs the steps take, and how much of their rows is padding."""
        shapes = self.shapes()
        parts = [f"{steps} of {a} x {b} x {t}" for (a, b, t, _), steps in shapes.most_common()]
        programs = "1 program" if len(shapes) == 1 else f"{len(shapes)} programs"
        return (
            f"{len(self)} steps take {programs} (micro-batches x rows x tokens: "
            f"{', '.join(parts)}); {self.padding_share():.1%} is padding"
        )

    def padding_share(self) -> float:
        """Share of the rows' tokens that are padding, in [0, 1]."""
        total = real = 0
        for step in self.steps:
            rows = [row for micro_batch in step.micro_batches for row in micro_batch]
            total += len(rows) * step.length
            real += sum(_row_tokens(self.examples, row, step.layout.prefix) for row in rows)
        return 1 - real / total


def make_plan(
    examples: Sequence[Example],
    sft: SftConfig,
    *,
    epochs: int,
    seed: int,
    data_parallel: int = 1,
    max_steps: int | None = None,
) -> Plan:
    """Plan `epochs` passes, each with every example once.

    Args:
        max_steps: Plan only the first of these steps; None for all.
        data_parallel: Devices that the rows are split over (mesh data x fsdp); a micro-batch has a
            multiple of it in rows.

    Raises:
        ValueError: There is no example, or one does not fit a row of `sft.row_length`.
    """
    if not examples:
        raise ValueError("there is no example to train on")
    steps = planned_batches(examples, sft, epochs=epochs, seed=seed)[:max_steps]
    members = members_of_pairs(examples)
    units = _units(examples, members, sft)
    lengths = _lengths(examples, members)
    ordered = [_by_length(_firsts(batch, members), lengths) for batch in steps]

    planned: list[PlannedStep | None] = [None] * len(steps)
    for shape in choose_rows(
        ordered,
        units,
        counts=sft.micro_batch_counts,
        devices=data_parallel,
        device_tokens=sft.micro_batch_tokens,
    ):
        rows = {step: _whole_rows(placed, members) for step, placed in shape.steps.items()}
        layout = _layout(examples, list(rows.values()), units, shape.length)
        for step, micro_batches in rows.items():
            planned[step] = PlannedStep(micro_batches, shape.length, layout)
    return Plan(examples, planned)


def planned_batches(
    examples: Sequence[Example], sft: SftConfig, *, epochs: int, seed: int
) -> list[list[int]]:
    """Indices of the examples of each step, over all epochs."""
    batches = []
    for epoch in range(epochs):
        batches += epoch_batches(examples, sft.batch_size, seed, epoch, sft.packing)
    return batches


def steps_of_epoch(examples: Sequence[Example], sft: SftConfig) -> int:
    """Number of steps of an epoch, which is that of every other one, too."""
    return len(epoch_batches(examples, sft.batch_size, 0, 0, sft.packing))


def epoch_batches(
    examples: Sequence[Example], batch_size: int, seed: int, epoch: int, packing: str
) -> list[list[int]]:
    """Indices of each batch of one epoch: every example once, no batch larger than `batch_size`.

    Without packing, the examples of a batch are of similar length, so that little is padded. With
    it, the batches are of similar total length, so that one shape serves all. A pair counts as one
    of `batch_size`; its texts are neighbours.
    """
    members = members_of_pairs(examples)
    lengths = _lengths(examples, members)
    # From the epoch, too, so that the order of one does not depend on how many there are.
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(_firsts(range(len(examples)), members))
    batches: list[list[int]] = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        piece = sorted(map(int, window), key=lambda i: (lengths[i], i))

        if packing == "none":
            batches += [piece[i : i + batch_size] for i in range(0, len(piece), batch_size)]
        else:
            batches += snake_draft(piece, -(-len(piece) // batch_size))

    # Unpacked, a window's batches go from short to long: without this, so would the training.
    return [_whole(batches[b], members) for b in rng.permutation(len(batches))]


def _lengths(examples: Sequence[Example], members: list[list[int]]) -> list[int]:
    return [sum(len(examples[i].tokens) for i in texts) for texts in members]


def _firsts(indices: Sequence[int], members: list[list[int]]) -> list[int]:
    return [i for i in indices if members[i][0] == i]


def _whole(firsts: Sequence[int], members: list[list[int]]) -> list[int]:
    return [i for first in firsts for i in members[first]]


def _by_length(firsts: Sequence[int], lengths: Sequence[int]) -> list[int]:
    return sorted(firsts, key=lambda i: (lengths[i], i))


def _units(examples: Sequence[Example], members: list[list[int]], sft: SftConfig) -> Units:
    """Measure what shares a row whole.

    Raises:
        ValueError: A unit does not fit the longest row.
    """
    is_packed = sft.packing != "none"
    prefix = shared_prefix(examples) if sft.packing == "shared_prefix" else 0
    own = [_row_tokens(examples, texts, prefix) - prefix for texts in members]
    longest = max(range(len(examples)), key=own.__getitem__)

    limits = {"row_length": sft.row_length} if is_packed else {}
    if sft.micro_batch_tokens is not None:
        limits["micro_batch_tokens"] = sft.micro_batch_tokens
    for name, limit in limits.items():
        if prefix + own[longest] > limit:
            pair = " of a pair, which has to share a row," if len(members[longest]) > 1 else ","
            raise ValueError(
                f"{examples[longest].id}: {prefix + own[longest]} tokens{pair} more than "
                f"sft.{name} {limit}; raise it"
            )

    # Unpacked rows are as long as they have to be.
    longest_row = min(limits.values(), default=round_up(prefix + own[longest], LENGTH_BUCKET))
    texts = [len(unit) for unit in members]
    bucket = SLOT_BUCKET if is_packed else LENGTH_BUCKET
    longest_text = [max(len(examples[i].tokens) for i in unit) - prefix for unit in members]
    slot = [round_up(tokens, bucket) for tokens in longest_text]
    return Units(own, slot, texts, prefix, longest_row, one_a_row=not is_packed)


def _whole_rows(micro_batches: list[Rows], members: list[list[int]]) -> list[Rows]:
    return [[_whole(row, members) for row in micro_batch] for micro_batch in micro_batches]


def _layout(
    examples: Sequence[Example], steps: list[list[Rows]], units: Units, length: int
) -> Layout:
    """Find the sizes that the rows of all these steps have in common."""
    rows = [row for step in steps for micro_batch in step for row in micro_batch]
    supervised = max(_supervised(examples, row) for row in rows)
    slot = max(units.slot[i] for row in rows for i in row)
    return Layout(
        prefix=units.prefix,
        slot=min(slot, length - units.prefix),
        segments=max(map(len, rows)),
        supervised=min(round_up(supervised, SUPERVISED_BUCKET), length),
    )


def _row_tokens(examples: Sequence[Example], row: Sequence[int], prefix: int) -> int:
    return prefix * bool(row) + sum(len(examples[i].tokens) - prefix for i in row)


def _supervised(examples: Sequence[Example], row: Sequence[int]) -> int:
    return sum(len(examples[i].tokens) - examples[i].prompt_length for i in row)
