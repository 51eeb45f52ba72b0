"""SVG elements as data: lines, bars, words and axes, of which `page_charts` makes charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 520
LEFT, RIGHT = 52, 14
"""Room beside the axes, in CSS pixels at full width."""


@dataclass(frozen=True)
class Mark:
    """An SVG element: its attributes, its text, and a hint that appears on hovering."""

    tag: str
    attributes: Mapping[str, Any]
    text: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing; `words` say for a screen reader what it shows, `legend` names its colours."""

    title: str
    words: str
    height: int
    marks: Sequence[Mark]
    legend: Sequence[tuple[str, str]] = ()
    width: int = WIDTH


def x_axis(x: Callable, at: Sequence[float], top: float, bottom: float, name: str) -> list[Mark]:
    """Vertical grid lines with their numbers, and what the axis shows."""
    marks = [line(x(tick), top, x(tick), bottom + 4, "grid") for tick in at]
    marks += [text(x(tick), bottom + 16, f"{tick:g}", "tick", "middle") for tick in at]
    marks.append(text((x(at[0]) + x(at[-1])) / 2, bottom + 32, name, "note", "middle"))
    return marks


def y_axis(y: Callable, at: Sequence[float]) -> list[Mark]:
    """Horizontal grid lines with their numbers."""
    marks = [line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid") for tick in at]
    return marks + [text(LEFT - 6, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in at]


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Four to six round numbers (1, 2 or 5 times a power of ten apart) within the bounds."""
    raw = max(high - low, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    step = max(1, round(step)) if whole else step
    count = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [round(number * step, 12) for number in count] or [low]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values between `low` and `high` to pixels between `start` and `end`."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Mark:
    """A line of a class of `page.css`."""
    places = zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)
    return Mark("line", {**{key: rounded(place) for key, place in places}, "class": kind})


def rect(x: float, y: float, width: float, height: float, kind: str, hint: str) -> Mark:
    """A bar."""
    sizes = {"x": x, "y": y, "width": width, "height": height}
    return Mark("rect", {**{k: rounded(v) for k, v in sizes.items()}, "class": kind}, hint=hint)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Mark:
    """Words at a place."""
    places = {"x": rounded(x), "y": rounded(y), "text-anchor": anchor, "class": kind or None}
    return Mark("text", {key: value for key, value in places.items() if value is not None}, words)


def rounded(value: float) -> float:
    """Pixels, as the page writes them."""
    return round(float(value), 1)
