"""Read and write what was measured: JSON files, one validated dataclass each."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dart_jax.records import from_json

T = TypeVar("T")

Bounds = tuple[float, float]
"""Low and high end of an interval."""


@dataclass(frozen=True)
class Estimate:
    """A measured value and the interval that it lies in.

    Attributes:
        value: None where nothing was measured, as a rate over no questions.
        low, high: Both None where there is nothing to resample.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval needs both of its bounds, not {self}")


def to_pretty_json(record: Any) -> str:
    """Indented JSON of one record, for a file of its own; raises ValueError for nan and inf."""
    values = dataclasses.asdict(record)
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path, record_type: type[T]) -> T:
    """The one record that a file holds. Raises BadRecord naming it, and FileNotFoundError."""
    return from_json(path.read_text(encoding="utf-8"), record_type, where=str(path))
