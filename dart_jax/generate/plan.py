"""The plan of one call of `decode`: order of prompts, shared prefix, and array shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import jax.numpy as jnp
from jax.sharding import Mesh

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.engine import BLOCK, aligned, cache_dtype
from dart_jax.generate.pages import PAGE
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.sharding import data_parallel, platform_of
from dart_jax.model.unstacking import free_memory
from dart_jax.processes import on_primary

# A shared prefix is computed apart in whole multiples of this, so that few lengths are compiled;
# the rest stays with the prompts.
_PREFIX_STEP = 16
# Tokens of one prefill on one device: enough for full speed, while few slots have to wait for it.
# A GPU is not at full speed before some thousands.
_PREFILL_TOKENS = 512
_GPU_PREFILL_TOKENS = 4096
# Slots where none are set; on GPUs for each that rows are spread over, as many of these as fit.
LEAST_SLOTS = 32
_GPU_SLOTS = (128, 64, LEAST_SLOTS)
# Of the memory that is free, for the cache: there are two of it while rows move.
_CACHE_SHARE = 0.4
# At most one slot in so many waits to be refilled together with others.
_SHARE = 4
# Few shapes begin with this length: shorter ones are hardly faster.
_LEAST_POWER = 128
# A batch does not shrink below so many slots: fewer rows are hardly faster.
_LEAST_SLOTS = 4
# What a program costs, in tokens: another shape has to save more. On two CPU cores a block of
# SmolLM2-135M's decoder takes 6 to 9 s to compile, in which 32 slots write some 1,500 to 2,000.
PROGRAM_TOKENS = 1536


@dataclass(frozen=True)
class Request:
    """A prompt to continue, as token ids, and the model that continues it.

    Attributes:
        id: Keys the sampling noise, which is the same under every model.
        adapter: Name of the model; one that has no adapter is the base model.
    """

    id: str
    tokens: tuple[int, ...]
    adapter: str = "M0"

    @property
    def length(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.tokens)


@dataclass(frozen=True)
class Plan:
    """Order and shapes of one call.

    Attributes:
        order: Requests, the longest first, so that memory runs out at once if at all. Those of one
            question under several models follow each other.
        prefix: Tokens that all prompts share, computed once.
        slots: Rows that are decoded together.
        positions: Tokens that a row has room for in the row cache.
        pages: Pages of a row that needs all positions; 1 where rows have no pages.
        data_parallel: Devices over which rows are spread.
        prompt_lengths: Tokens to which prompts without the prefix are padded, rising.
        new_tokens: Tokens of all answers, at most.
        prefill_tokens: Tokens of one prefill on one device, with padding.
    """

    order: tuple[Request, ...]
    prefix: tuple[int, ...]
    slots: int
    positions: int
    pages: int
    data_parallel: int
    prompt_lengths: tuple[int, ...]
    new_tokens: int
    prefill_tokens: int = _PREFILL_TOKENS

    def prefill_shape(self, waiting: Iterable[Request]) -> tuple[int, int]:
        """Padded length of the next prompts without prefix, and how many are prefilled at once."""
        most = max(self.data_parallel, self.slots // _SHARE)
        longest = max(r.length for r in islice(waiting, most)) - len(self.prefix)
        T = next(length for length in self.prompt_lengths if length >= longest)
        # A power of two, so that few shapes are compiled.
        rows = 1 << max(1, self.prefill_tokens // T).bit_length() - 1
        return T, min(rows * self.data_parallel, most)

    def smaller(self, slots: int, running: int, steps: int) -> int:
        """The number of slots to go on with, once nothing waits.

        They are halved as often as the running rows and the devices allow, where that saves more
        than it costs to compile.

        Args:
            slots: Their number so far.
            steps: The most that one of the running rows has left.
        """
        size, least = self.slots, max(_LEAST_SLOTS, self.data_parallel)
        while size % 2 == 0 and size // 2 >= max(running, least):
            size //= 2
        return size if (slots - size) * steps >= PROGRAM_TOKENS else slots


def bucket(length: int) -> int:
    """Round a length up so that few lengths are compiled, with at most an eighth of padding.

    Up to 128 it is the next multiple of 16, up to 256 of 32, up to 512 of 64, and so on.

    >>> [bucket(n) for n in (1, 65, 113, 129, 257)]
    [16, 80, 128, 160, 320]
    """
    step = 1 << max(4, (length - 1).bit_length() - 3)
    return -(-length // step) * step


def _rounded(length: int, few_shapes: bool) -> int:
    """Round a length up to a size that is compiled: a power of two for few shapes, or `bucket`."""
    if not few_shapes:
        return bucket(length)
    return max(_LEAST_POWER, 1 << (length - 1).bit_length())


def _prompt_lengths(lengths: Sequence[int], few_shapes: bool) -> tuple[int, ...]:
    """Choose to which lengths prompts are padded, each of which is compiled.

    A shorter one has to save more tokens than its program costs; the few powers of two that calls
    in a row share are all there.
    """
    least_saved = 1 if few_shapes else PROGRAM_TOKENS
    rounded = sorted((_rounded(length, few_shapes) for length in lengths), reverse=True)
    chosen = rounded[:1]
    for index, length in enumerate(rounded):
        # This prompt and all later ones, which are no longer, would be padded less.
        if (chosen[-1] - length) * (len(rounded) - index) >= least_saved:
            chosen.append(length)
    return tuple(reversed(chosen))


def make_plan(
    requests: Sequence[Request],
    config: DecodeConfig,
    mesh: Mesh,
    prefix: Sequence[int] | None = None,
    few_shapes: bool = False,
    cache_tokens: int | None = None,
) -> Plan:
    """Plan a call of `decode`, whose arguments these are.

    Args:
        cache_tokens: From `cache_room`.
    """
    shared = common_prefix([request.tokens for request in requests])
    if prefix is not None:
        # All prompts agree in the `shared` tokens: the first may stand for all.
        shared = min(shared, len(common_prefix_of(tuple(prefix), requests[0].tokens)))
    shared -= shared % _PREFIX_STEP

    names = list(dict.fromkeys(request.adapter for request in requests))
    order = sorted(requests, key=lambda r: (-r.length, r.id, names.index(r.adapter)))

    longest = order[0].length - shared
    prompt_lengths = _prompt_lengths([request.length - shared for request in order], few_shapes)

    # A block more, since a row may end inside one and decodes to the end of it.
    room = max(aligned(longest) + aligned(config.max_new_tokens) + BLOCK, prompt_lengths[-1])
    room = _rounded(room, few_shapes) if few_shapes else room
    pages = -(-room // PAGE)
    # On several devices a row stays on its own one, and on an accelerator it is read whole: whether
    # pages would be faster there has not been measured.
    paged = mesh.size == 1 and platform_of(mesh) == "cpu"

    devices = data_parallel(mesh)
    return Plan(
        order=tuple(order),
        prefix=order[0].tokens[:shared],
        slots=_slots(len(requests), most_slots(config, mesh, pages * PAGE, cache_tokens), devices),
        positions=pages * PAGE,
        pages=pages if paged else 1,
        data_parallel=devices,
        prompt_lengths=prompt_lengths,
        new_tokens=len(requests) * config.max_new_tokens,
        prefill_tokens=_GPU_PREFILL_TOKENS if platform_of(mesh) == "gpu" else _PREFILL_TOKENS,
    )


def most_slots(config: DecodeConfig, mesh: Mesh, positions: int, room: int | None = None) -> int:
    """Count the slots of a full batch, over all devices: as set, or as many as fit up to a default.

    Args:
        positions: Tokens of a slot.
        room: Tokens that the memory of a device has room for; None where that is not known.
    """
    if config.slots != "auto":
        return config.slots
    if platform_of(mesh) != "gpu":
        return LEAST_SLOTS
    fitting = [slots for slots in _GPU_SLOTS if room is None or slots * positions <= room]
    return max(fitting, default=LEAST_SLOTS) * data_parallel(mesh)


def cache_room(config: LlamaConfig, mesh: Mesh, dtype: jnp.dtype) -> int | None:
    """Count the tokens whose keys and values a device has room for beside what it holds now.

    None where the device does not say, as a CPU. The first process decides for all.

    Args:
        dtype: Of the weights.
    """

    def count() -> int | None:
        free = free_memory()
        if free is None:
            return None
        heads = -(-config.num_kv_heads // mesh.shape["tensor"])
        numbers = 2 * config.num_layers * heads * config.head_dim
        return int(_CACHE_SHARE * free) // (numbers * cache_dtype(mesh, dtype).itemsize)

    return on_primary(count)


def _slots(requests: int, most: int, devices: int) -> int:
    """Number of slots: at most `most`, for few requests the next power of two.

    It is rounded up to a multiple of the devices.
    """
    size = min(most, 1 << (requests - 1).bit_length())
    return -(-size // devices) * devices


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens with which all rows begin; at least one of each row is left over."""
    # Among sorted rows, the first and the last have the shortest prefix in common.
    shared = common_prefix_of(min(rows), max(rows))
    return min(len(shared), min(map(len, rows)) - 1)


def common_prefix_of(first: Sequence[int], second: Sequence[int]) -> Sequence[int]:
    """The tokens with which two rows begin."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return first[:index]
    return first[: min(len(first), len(second))]
