"""Ranges of settings, declared in a field's annotation and checked when a configuration is made.

    @dataclass(frozen=True)
    class SftConfig:
        learning_rate: Positive = 2e-4
        clip_norm: Positive | None = 1.0
        warmup_share: Share = 0.03

        def __post_init__(self) -> None:
            check_fields(self, "sft")

A value outside its range raises `sft.warmup_share: 2; give a number from 0 to 1`. No number may be
nan, infinite, or 0 or infinite in float32, in which the devices compute.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

# The smallest and the largest magnitude that float32 holds; XLA flushes smaller numbers to 0.
_TINY = 2.0**-126
_HUGE = (2 - 2.0**-23) * 2.0**127


class BadSetting(ValueError):
    """A setting that does not exist, or whose value is outside its range."""


@dataclass(frozen=True, repr=False)
class Range:
    """The numbers that a setting may have; --help shows it as `Annotated[float, above 0]`."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    or_zero: bool = False

    def __contains__(self, value: float) -> bool:
        if self.or_zero and value == 0:
            return True
        return (
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __repr__(self) -> str:
        if self.least is not None and self.least == self.most:
            return f"{self.least}"
        lower = "" if self.above is None else f"above {self.above:g}"
        lower = lower if self.least is None else f"from {self.least:g}"
        upper = "" if self.below is None else f"below {self.below:g}"
        # `:g` alone would round the largest seed.
        upper = upper if self.most is None else f"to {self.most:.10g}"
        joint = " and " if self.above is not None or self.below is not None else " "
        return ("0 or " if self.or_zero else "") + joint.join(filter(None, (lower, upper)))


@dataclass(frozen=True, repr=False)
class NotEmpty:
    """A text of at least one character that is no white space."""

    def __contains__(self, value: str) -> bool:
        return bool(value.strip())

    def __repr__(self) -> str:
        return "that is not empty"


Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
PositiveShare = Annotated[float, Range(above=0, most=1)]
Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]
Name = Annotated[str, NotEmpty()]

# A smaller weight is lost in Adam's epsilon, or beside others in a float32 sum.
LEAST_WEIGHT = 1e-6
LossWeight = Annotated[float, Range(least=LEAST_WEIGHT, most=1e6)]
LossWeightOrZero = Annotated[float, Range(least=LEAST_WEIGHT, most=1e6, or_zero=True)]


def check_fields(config: Any, key: str) -> None:
    """Check every field of a configuration against its declared type and range.

    Sections inside it are left out: they were checked when they were made.

    Args:
        key: The section's name, such as `sft`.

    Raises:
        BadSetting: Names the field, its value and what may be given.
    """
    for name, hint in field_types(type(config)).items():
        if not dataclasses.is_dataclass(hint):
            check_value(f"{key}.{name}", hint, getattr(config, name))


def check_value(key: str, hint: Any, value: Any) -> None:
    """Raise BadSetting unless `value` is of the annotated type and within its range."""
    if not allows(hint, value):
        raise BadSetting(f"{key}: {shown(value)}{_lost(value)}; give {described(hint)}")


@cache
def field_types(config: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, ranges included."""
    hints = get_type_hints(config, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def setting_types(config: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and annotation of every setting and section below a dataclass."""
    for name, hint in field_types(config).items():
        yield f"{prefix}{name}", hint
        if dataclasses.is_dataclass(hint):
            yield from setting_types(hint, f"{prefix}{name}.")


def allows(hint: Any, value: Any) -> bool:
    """Tell whether a value is of an annotated type and within its range."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return allows(parts[0], value) and all(value in limit for limit in parts[1:])
    if kind in (Union, types.UnionType):
        return any(allows(part, value) for part in parts)
    if kind is Literal:
        return isinstance(value, str) and value in parts
    if kind is tuple:
        return _allows_items(parts, value)

    if hint is float:
        return _is_number(value, int | float)
    if hint is int:
        return _is_number(value, int)
    return value is None if hint is type(None) else isinstance(value, hint)


def _allows_items(parts: tuple[Any, ...], value: Any) -> bool:
    if not isinstance(value, tuple | list):
        return False
    if parts[-1] is Ellipsis:
        return all(allows(parts[0], item) for item in value)
    return len(value) == len(parts) and all(map(allows, parts, value))


def _is_number(value: Any, kind: Any) -> bool:
    # To Python, true and false are whole numbers.
    return isinstance(value, kind) and not isinstance(value, bool) and not _lost(value)


def _lost(value: Any) -> str:
    """Say how float32 would lose a number; '' where it holds it."""
    if not isinstance(value, float) or value == 0:
        return ""
    if math.isnan(value):
        return ", which is no number"
    if abs(value) > _HUGE:
        return ", which is infinite in float32"
    return ", which is 0 in float32" if abs(value) < _TINY else ""


def described(hint: Any) -> str:
    """Describe what may be given for a setting, such as `a number above 0 or null`."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return f"{described(parts[0])} {' and '.join(map(repr, parts[1:]))}"
    if kind in (Union, types.UnionType):
        return " or ".join(map(described, parts))
    if kind is Literal:
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
    if kind is tuple and parts[-1] is Ellipsis:
        return f"a list such as [a, b], each {described(parts[0])}"
    if kind is tuple:
        return f"a list of {len(parts)}, each {described(parts[0])}"

    names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    names |= {Path: "a path", type(None): "null"}
    return names.get(hint, "a mapping, field: value")


def takes_list(hint: Any) -> bool:
    """Tell whether a setting is a list, or may be one."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(map(takes_list, get_args(hint)))
    return get_origin(hint) is tuple


def shown(value: Any) -> str:
    """Format a value as YAML writes it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) or "''"
