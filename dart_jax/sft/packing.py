"""Plan a whole training run: the step, micro-batch and row of each example.

The plan is made before the first step, from the examples, the settings and the seed alone: every
process and every resumed run has the same one. Which examples form a step depends on neither
micro-batches nor devices; in which micro-batch each is does not depend on the devices; how they
share rows does.

The two texts of a pair (`preference`) share a row and count as one example. Below, a pair is named
by the index of its first text, and `members` has, for each index, those of all its texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dart_jax.model.packed_attention import Layout
from dart_jax.records import digest
from dart_jax.sft.batch import StepBatch, make_step_batch, shared_prefix
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example, members_of_pairs

# Lengths are rounded up to these, so that a run compiles a handful of shapes (packed: one).
LENGTH_BUCKET = 64
SLOT_BUCKET = 32
SUPERVISED_BUCKET = 32
# Batches are made from windows of this many: examples are sorted by length within one, and the
# order of examples and of batches stays random.
WINDOW = 8

Rows = list[list[int]]


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
    lengths = _lengths(examples, members)
    cut = [_micro_batches(_firsts(batch, members), lengths, sft.micro_batches) for batch in steps]
    plan = _one_a_row if sft.packing == "none" else _packed
    return Plan(examples, plan(examples, members, cut, sft, data_parallel))


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


def snake_draft(ordered: Sequence[int], groups: int) -> list[list[int]]:
    """Assign in snake order, so that groups of ordered lengths get nearly equal totals.

    The turn goes to and fro: 0 1 2 3 4 5 in two groups are 0 3 4 and 1 2 5.
    """
    drafted: list[list[int]] = [[] for _ in range(groups)]
    for index, member in enumerate(ordered):
        turn, place = divmod(index, groups)
        group = place if turn % 2 == 0 else groups - 1 - place
        drafted[group].append(member)
    return drafted


def _lengths(examples: Sequence[Example], members: list[list[int]]) -> list[int]:
    return [sum(len(examples[i].tokens) for i in texts) for texts in members]


def _firsts(indices: Sequence[int], members: list[list[int]]) -> list[int]:
    return [i for i in indices if members[i][0] == i]


def _whole(firsts: Sequence[int], members: list[list[int]]) -> list[int]:
    return [i for first in firsts for i in members[first]]


def _micro_batches(batch: list[int], lengths: list[int], count: int) -> list[list[int]]:
    return snake_draft(sorted(batch, key=lambda i: (lengths[i], i)), count)


def _one_a_row(
    examples: Sequence[Example],
    members: list[list[int]],
    steps: list[list[list[int]]],
    sft: SftConfig,
    data_parallel: int,
) -> list[PlannedStep]:
    rows = _round_up(sft.batch_size // sft.micro_batches, data_parallel)
    planned = []
    for step in steps:
        texts = [members[first] for micro_batch in step for first in micro_batch]
        length = _round_up(max(_row_tokens(examples, row, 0) for row in texts), LENGTH_BUCKET)
        longest = max(len(examples[i].tokens) for row in texts for i in row)
        supervised = max(_supervised(examples, row) for row in texts)
        layout = Layout(
            prefix=0,
            slot=_round_up(longest, LENGTH_BUCKET),
            segments=max(map(len, texts)),
            supervised=min(_round_up(supervised, SUPERVISED_BUCKET), length),
        )

        # Empty rows at the end of a micro-batch, so that the devices get equally many.
        filled = [[members[i] for i in m] + [[] for _ in range(rows - len(m))] for m in step]
        planned.append(PlannedStep(filled, length, layout))
    return planned


def _packed(
    examples: Sequence[Example],
    members: list[list[int]],
    steps: list[list[list[int]]],
    sft: SftConfig,
    data_parallel: int,
) -> list[PlannedStep]:
    prefix = shared_prefix(examples) if sft.packing == "shared_prefix" else 0
    own = [_row_tokens(examples, texts, prefix) - prefix for texts in members]
    room = sft.row_length - prefix
    longest = max(range(len(examples)), key=own.__getitem__)
    if own[longest] > room:
        pair = " of a pair, which has to share a row," if len(members[longest]) > 1 else ","
        raise ValueError(
            f"{examples[longest].id}: {prefix + own[longest]} tokens{pair} more than "
            f"sft.row_length {sft.row_length}; raise it"
        )

    # As few rows as the fullest micro-batch needs at the longest row; every micro-batch gets them.
    micro_batches = [m for step in steps for m in step]
    count = _round_up(max(len(first_fit(m, own, room)) for m in micro_batches), data_parallel)

    # The least row length at which every micro-batch fits that number of rows.
    need = max(sum(own[i] for i in m) for m in micro_batches)
    # A lower bound to start from: no example is cut, and the fullest micro-batch has to fit.
    capacity = max(-(-need // count), own[longest])
    lengths = range(_round_up(prefix + capacity, LENGTH_BUCKET), sft.row_length, LENGTH_BUCKET)
    length = next(
        (
            length
            for length in lengths
            if all(len(first_fit(m, own, length - prefix)) <= count for m in micro_batches)
        ),
        # Always possible: `count` was found with it.
        sft.row_length,
    )

    packed = []
    for step in steps:
        filled = [_packed_rows(m, own, length - prefix, count) for m in step]
        packed.append([[_whole(row, members) for row in micro_batch] for micro_batch in filled])

    rows = [row for step in packed for m in step for row in m]
    supervised = max(_supervised(examples, row) for row in rows)
    longest_text = max(len(example.tokens) for example in examples) - prefix
    layout = Layout(
        prefix=prefix,
        slot=min(_round_up(longest_text, SLOT_BUCKET), length - prefix),
        segments=max(map(len, rows)),
        supervised=min(_round_up(supervised, SUPERVISED_BUCKET), length),
    )
    return [PlannedStep(step, length, layout) for step in packed]


def _packed_rows(micro_batch: list[int], own: list[int], capacity: int, count: int) -> Rows:
    rows = first_fit(micro_batch, own, capacity)
    return rows + [[] for _ in range(count - len(rows))]


def first_fit(members: Sequence[int], lengths: Sequence[int], capacity: int) -> Rows:
    """Whole examples into rows: the longest first, each into the first row that has room."""
    rows: Rows = []
    used: list[int] = []
    for member in sorted(members, key=lambda i: (-lengths[i], i)):
        fits = (row for row, tokens in enumerate(used) if tokens + lengths[member] <= capacity)
        index = next(fits, len(rows))
        if index == len(rows):
            rows.append([])
            used.append(0)
        rows[index].append(member)
        used[index] += lengths[member]
    return rows


def _row_tokens(examples: Sequence[Example], row: Sequence[int], prefix: int) -> int:
    return prefix * bool(row) + sum(len(examples[i].tokens) - prefix for i in row)


def _supervised(examples: Sequence[Example], row: Sequence[int]) -> int:
    return sum(len(examples[i].tokens) - examples[i].prompt_length for i in row)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
