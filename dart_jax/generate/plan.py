"""What one call of `decode` computes, and in which few shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

from jax.sharding import Mesh

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.engine import BLOCK, aligned
from dart_jax.generate.pages import PAGE
from dart_jax.model.sharding import RULES, platform_of

# A shared prefix is computed apart in whole multiples of this; the rest stays with the prompts.
_PREFIX_STEP = 16
# Tokens of one prefill on one device: enough for full speed, and few slots that wait for it.
_PREFILL_TOKENS = 512
# Slots that wait to be refilled together are at most one in so many.
_SHARE = 4
# Slots below which a batch does not shrink: fewer rows are hardly faster.
_LEAST_SLOTS = 4


@dataclass(frozen=True)
class Request:
    """Token ids to continue.

    Attributes:
        id: Keys the noise: the same under every model.
        adapter: Whose answer it is; a name that has no adapter is the base model.
    """

    id: str
    tokens: tuple[int, ...]
    adapter: str = "M0"

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.tokens)


@dataclass(frozen=True)
class Plan:
    """The shapes of one call.

    Attributes:
        order: Longest first: the worst comes at once. A question's models follow each other.
        adapters: Names that occur.
        prefix: Tokens computed once for all.
        slots: Rows.
        columns: Tokens that a row's own cache has room for.
        pages: Pages of a row that needs all columns; 1 where rows have no pages.
        ways: Devices over which rows are spread.
    """

    order: tuple[Request, ...]
    adapters: tuple[str, ...]
    prefix: tuple[int, ...]
    slots: int
    columns: int
    pages: int
    ways: int

    def prefill_shape(self, waiting: Iterable[Request]) -> tuple[int, int]:
        """Padded length of the next prompts' own tokens, and how many are prefilled together."""
        most = max(self.ways, self.slots // _SHARE)
        T = bucket(max(r.length for r in islice(waiting, most)) - len(self.prefix))
        rows = 1 << max(1, _PREFILL_TOKENS // T).bit_length() - 1
        return T, min(rows * self.ways, most)

    def smaller(self, running: int) -> int:
        """The slots to go on with: halved as often as `running` rows and the devices allow."""
        size, least = self.slots, max(_LEAST_SLOTS, self.ways)
        while size % 2 == 0 and size // 2 >= max(running, least):
            size //= 2
        return size


def bucket(length: int) -> int:
    """The next multiple of 16, above 128 of 32, above 256 of 64, ...: an eighth of padding at most.

    >>> [bucket(n) for n in (1, 65, 113, 129, 257)]
    [16, 80, 128, 160, 320]
    """
    step = 1 << max(4, (length - 1).bit_length() - 3)
    return -(-length // step) * step


def make_plan(
    requests: Sequence[Request],
    config: DecodeConfig,
    mesh: Mesh,
    prefix: Sequence[int] | None = None,
) -> Plan:
    """Plan a call; `prefix` as in `decode`."""
    shared = common_prefix([request.tokens for request in requests])
    if prefix is not None:
        shared = min(shared, len(common_prefix_of(tuple(prefix), requests[0].tokens)))
    shared -= shared % _PREFIX_STEP
    names = tuple(dict.fromkeys(request.adapter for request in requests))
    order = sorted(requests, key=lambda r: (-r.length, r.id, names.index(r.adapter)))
    longest = order[0].length - shared
    room = max(aligned(longest) + aligned(config.max_new_tokens) + BLOCK, bucket(longest))
    pages = -(-room // PAGE)
    # Elsewhere, rows stay where their devices are and are read whole: pages are not measured there.
    paged = mesh.size == 1 and platform_of(mesh) == "cpu"
    ways = prod(mesh.shape[axis] for axis in RULES["batch"])
    return Plan(
        order=tuple(order),
        adapters=names,
        prefix=order[0].tokens[:shared],
        slots=_slots(len(requests), config.slots, ways),
        columns=pages * PAGE,
        pages=pages if paged else 1,
        ways=ways,
    )


def _slots(requests: int, most: int, ways: int) -> int:
    """At most `most`, rounded up to the devices; few requests get the next power of two."""
    size = min(most, 1 << (requests - 1).bit_length())
    return -(-size // ways) * ways


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Tokens with which all rows begin, at least one of each row left over."""
    first = min(rows)
    last = max(rows)  # of sorted rows, the first and the last differ first
    return min(len(common_prefix_of(first, last)), min(map(len, rows)) - 1)


def common_prefix_of(one: Sequence[int], other: Sequence[int]) -> Sequence[int]:
    """What two rows begin with."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:index]
    return one[: min(len(one), len(other))]
