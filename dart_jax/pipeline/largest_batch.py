"""The rows that a device's memory has room for: by formula, then as the compiler agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dart_jax.config import DartConfig
from dart_jax.model.architecture import LlamaConfig
from dart_jax.pipeline.footprint import Devices, batch_shape, train_footprint

# Each further try has this share of rows fewer: to compile one takes minutes.
_FEWER = 0.05


def rows_to_try(
    config: DartConfig,
    architecture: LlamaConfig,
    devices: Devices,
    memory_bytes: int,
    length: int | None = None,
) -> Iterator[int]:
    """Yield the most rows that fit by formula, then ever fewer, by a twentieth each time.

    Args:
        memory_bytes: Memory of one device.
        length: Tokens of a row, instead of what the settings come to.
    """
    step = devices.data_parallel

    def bytes_of(rows: int) -> float:
        shape = batch_shape(config.sft, step, rows, length)
        sections = (config.model, config.lora, config.sft)
        return train_footprint(architecture, *sections, devices, shape).total

    rows = largest_rows(bytes_of, memory_bytes, step)
    while rows >= step:
        yield rows
        rows -= max(1, round(_FEWER * rows / step)) * step


def largest_rows(bytes_of: Callable[[int], float], memory_bytes: int, step: int) -> int:
    """Find the most rows that fit, by doubling, then by bisection; `step` if not even these do.

    Args:
        bytes_of: Bytes that a device needs for so many rows; grows with them.
        step: Number of devices that rows are split over; the result is a multiple of it.
    """
    fitting, too_many = 1, 2
    while bytes_of(too_many * step) <= memory_bytes:
        fitting, too_many = too_many, 2 * too_many

    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if bytes_of(middle * step) <= memory_bytes:
            fitting = middle
        else:
            too_many = middle
    return fitting * step
