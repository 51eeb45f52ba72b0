"""Choose the few shapes of rows that the steps of a training share.

Each shape is a program to compile, and a step that shares it is padded to it. So a rare long
example gets a shape of its own where that saves more than its program costs, and the lengths of
unpacked rows are rounded to a handful. All of it is arithmetic on lengths: no clock, no device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

MOST_SHAPES = 4
"""The most programs of a training step that a training compiles."""

# Row lengths are multiples of this.
LENGTH_BUCKET = 64
# What a program costs, in tokens of rows: another shape has to save more. For a small model on a
# CPU that is more than its seconds; on an accelerator it is less, but trainings are longer, too.
PROGRAM_TOKENS = 16_384
# So many scores of attention cost about as much as a token in all other products. In operations
# they are 1,700 for SmolLM2-135M, and more for larger models; attention's products run slower.
PAIRS_OF_A_TOKEN = 1024
# Steps whose costs fall into the same of so many ranges share a shape in any case.
MOST_RANGES = 128

Rows = list[list[int]]


class SharedShape(NamedTuple):
    """Steps whose arrays have the same shape.

    Attributes:
        length: Tokens of each row.
        steps: The rows of each step's micro-batches, by the number of the step. All have as many
            micro-batches, and these as many rows, of which some may be empty.
    """

    length: int
    steps: dict[int, list[Rows]]


@dataclass(frozen=True)
class Units:
    """Examples, and pairs that share a row whole, by the index of their first text.

    Attributes:
        own: Tokens of each unit without the prefix.
        slot: Those of its longest text, rounded up to the size of a slot (`Layout`).
        texts: Number of its texts.
        prefix: Tokens at the start of each row, which all texts share.
        longest_row: Most tokens of a row.
        one_a_row: Give each unit a row of its own.
    """

    own: list[int]
    slot: list[int]
    texts: list[int]
    prefix: int
    longest_row: int
    one_a_row: bool

    def packings(self, units: Sequence[int]) -> Iterator[tuple[int, Rows]]:
        """Yield row lengths, rising, with the rows that units fill, whenever these get fewer."""
        own = [self.own[unit] for unit in units]
        first = round_up(self.prefix + max(own, default=0), LENGTH_BUCKET)
        if self.one_a_row:
            yield min(first, self.longest_row), [[unit] for unit in units]
            return

        total, fewest = sum(own), len(units) + 1
        for length in (*range(first, self.longest_row, LENGTH_BUCKET), self.longest_row):
            capacity = length - self.prefix
            if total > (fewest - 1) * capacity:
                continue  # fewer rows cannot hold them
            rows = first_fit(units, self.own, capacity)
            if len(rows) < fewest:
                fewest = len(rows)
                yield length, rows
            if fewest <= 1:
                return

    def in_rows(self, units: Sequence[int], count: int) -> Rows:
        """Put units into `count` rows of the least length, of which the last may be empty."""
        rows = next(rows for _, rows in self.packings(units) if len(rows) <= count)
        return rows + [[] for _ in range(count - len(rows))]


class _Needs(NamedTuple):
    """The least that each of S steps needs, under each of D divisions into micro-batches and rows.

    Attributes:
        micro_batches, rows: Of each division.
        most_tokens: Of a micro-batch; shapes with more are not considered.
        lengths: Least length of a row; infinite where that many rows of no length suffice.
        segments: Most texts in a row.
        slots: Largest `Units.slot` of each step.
        prefix: Tokens at the start of each row.
    """

    micro_batches: Int[np.ndarray, " D"]
    rows: Int[np.ndarray, " D"]
    most_tokens: Int[np.ndarray, " D"]
    lengths: Float[np.ndarray, "S D"]
    segments: Int[np.ndarray, "S D"]
    slots: Int[np.ndarray, "S 1"]
    prefix: int

    def costs(self) -> Float[np.ndarray, "S D"]:
        """Count what each division of a step costs, in tokens; infinite where it is impossible."""
        in_slots = self.segments * self.slots * (self.prefix + self.slots)
        # As `packed_attention` chooses: by slots, or dense.
        pairs = np.minimum(in_slots, self.lengths**2)
        costs = self.micro_batches * self.rows * (self.lengths + pairs / PAIRS_OF_A_TOKEN)
        return np.where(self.rows * self.lengths <= self.most_tokens, costs, np.inf)

    def of_ranges(self, ranges: Sequence[np.ndarray | slice]) -> _Needs:
        """Give, for each range of steps, the needs of a shape that serves all of them."""
        return self._replace(
            lengths=np.stack([self.lengths[steps].max(axis=0) for steps in ranges]),
            segments=np.stack([self.segments[steps].max(axis=0) for steps in ranges]),
            slots=np.stack([self.slots[steps].max(axis=0) for steps in ranges]),
        )


def choose_rows(
    steps: Sequence[Sequence[int]],
    units: Units,
    *,
    counts: Iterable[int],
    devices: int,
    device_tokens: int | None,
) -> list[SharedShape]:
    """Divide steps among at most `MOST_SHAPES` shapes, and put their units into rows.

    Args:
        steps: The units of each step, from short to long.
        counts: Numbers of micro-batches to try, rising; the last one has to be possible.
        devices: Rows of a micro-batch are a multiple of it.
        device_tokens: Most tokens of a micro-batch's rows on each of them; None for no limit.
    """
    needs = _needs(steps, units, counts, devices, device_tokens)
    ranges = _similar_steps(needs.costs().min(axis=1))
    sizes = np.array([len(members) for members in ranges])
    shared = []
    for first, end in _shared_ranges(needs.of_ranges(ranges), sizes):
        members = np.concatenate(ranges[first:end])
        served = needs.of_ranges([members])
        division = int(served.costs()[0].argmin())
        rows = int(needs.rows[division])

        placed = {}
        for step in members.tolist():
            groups = snake_draft(steps[step], int(needs.micro_batches[division]))
            placed[step] = [units.in_rows(group, rows) for group in groups]
        shared.append(SharedShape(int(served.lengths[0, division]), placed))
    return shared


def _needs(
    steps: Sequence[Sequence[int]],
    units: Units,
    counts: Iterable[int],
    devices: int,
    device_tokens: int | None,
) -> _Needs:
    """Find what steps need, with as many micro-batches as let one shape serve all, or fewer."""
    parts: list[_Needs] = []
    for count in counts:
        part = _needs_of(steps, units, count, devices, device_tokens)
        parts.append(part)
        if np.isfinite(part.of_ranges([slice(None)]).costs()).any():
            break
    return _Needs(
        *(np.concatenate(column) for column in list(zip(*parts, strict=True))[:3]),
        lengths=np.concatenate([part.lengths for part in parts], axis=1),
        segments=np.concatenate([part.segments for part in parts], axis=1),
        slots=parts[0].slots,
        prefix=units.prefix,
    )


def _needs_of(
    steps: Sequence[Sequence[int]],
    units: Units,
    count: int,
    devices: int,
    device_tokens: int | None,
) -> _Needs:
    """Find what steps need that are cut into `count` micro-batches."""
    drafted = [snake_draft(step, count) for step in steps]
    most = round_up(max(len(group) for step in drafted for group in step), devices)
    rows = np.arange(devices, most + 1, devices)
    if units.one_a_row:
        rows = rows[-1:]

    lengths = np.zeros((len(steps), len(rows)))
    segments = np.zeros((len(steps), len(rows)), np.int64)
    for step, groups in enumerate(drafted):
        for group in groups:
            least, texts = _least(group, units, rows)
            lengths[step] = np.maximum(lengths[step], least)
            segments[step] = np.maximum(segments[step], texts)

    # No more memory than as few rows as serve all steps take at full length.
    fewest = rows[np.isfinite(lengths).all(axis=0)].min()
    most_tokens = int(fewest) * units.longest_row
    if device_tokens is not None:
        most_tokens = min(most_tokens, device_tokens * devices)
    slots = [max((units.slot[unit] for unit in step), default=0) for step in steps]
    return _Needs(
        np.full(len(rows), count),
        rows,
        np.full(len(rows), most_tokens),
        lengths,
        segments,
        np.array(slots)[:, None],
        units.prefix,
    )


def _least(
    group: Sequence[int], units: Units, rows: Int[np.ndarray, " D"]
) -> tuple[Float[np.ndarray, " D"], Int[np.ndarray, " D"]]:
    """Find the least row length, and most texts in a row then, for each number of rows."""
    lengths, segments = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64)
    for length, packed in units.packings(group):
        newly = (rows >= len(packed)) & np.isinf(lengths)
        lengths[newly] = length
        segments[newly] = max((sum(units.texts[i] for i in row) for row in packed), default=0)
    return lengths, segments


def _similar_steps(costs: Float[np.ndarray, " S"]) -> list[Int[np.ndarray, " N"]]:
    """Divide steps into ranges of similar cost, from cheap to dear."""
    width = max(LENGTH_BUCKET, float(np.ptp(costs)) / MOST_RANGES)
    labels = np.floor(costs / width)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _shared_ranges(needs: _Needs, sizes: Int[np.ndarray, " G"]) -> list[tuple[int, int]]:
    """Divide ranges of steps among at most MOST_SHAPES shapes at the least cost in all.

    Args:
        needs: Of each range.
        sizes: Steps in it.

    Returns:
        First range of each shape, and the one after its last.
    """
    ranges = len(sizes)
    costs = np.full((ranges, ranges + 1), np.inf)
    for first in range(ranges):
        served = needs.of_ranges([slice(first, end) for end in range(first + 1, ranges + 1)])
        costs[first, first + 1 :] = np.cumsum(sizes[first:]) * served.costs().min(axis=1)

    # least[end]: cost of the ranges before `end`, with as many shapes as there were rounds.
    least = np.full(ranges + 1, np.inf)
    least[0] = 0.0
    begins, totals = [], []
    for shapes in range(1, MOST_SHAPES + 1):
        totals_by_begin = least[:-1, None] + costs
        begins.append(totals_by_begin.argmin(axis=0))
        least = totals_by_begin.min(axis=0)
        totals.append(least[-1] + shapes * PROGRAM_TOKENS)

    shared, end = [], ranges
    for begin in reversed(begins[: int(np.argmin(totals)) + 1]):
        shared.append((int(begin[end]), end))
        end = int(begin[end])
    return shared


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


def round_up(value: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-value // multiple) * multiple
