"""The charts of the report page, as marks that the template writes as inline SVG.

Colours and fonts are classes of `page.css`, so that a chart follows the page's light or dark
scheme; sizes are in CSS pixels at full width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dart_jax.audit.noise_floor import null_deltas, rate_at
from dart_jax.audit.scorers import ANY
from dart_jax.evaluate.summary import AUDITED, MODELS, SEVERITIES
from dart_jax.records import DriftType

WIDTH = 520
_LEFT, _RIGHT = 52, 14


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
    width: int = field(default=WIDTH)


def accuracy(summary: Mapping[str, Any]) -> Chart:
    """Accuracy by benchmark: a row each, a dot for each model, the shortcut as a dashed line."""
    models = summary["models"]
    benchmarks = sorted(models["M0"]["by_benchmark"])
    step, top = 30, 30
    height = top + step * (len(benchmarks) + 1) + 34
    x = _scale(0, 100, _LEFT + 18, WIDTH - _RIGHT)
    marks = _x_axis(x, range(0, 101, 20), top, height - 34, "accuracy, %")
    shortcut = 100 * summary["shortcut_baseline"]["accuracy"]
    marks += [
        _line(x(shortcut), top - 6, x(shortcut), height - 34, "threshold"),
        _text(x(shortcut), top - 12, f"shortcut {shortcut:.1f}", "note", _towards(shortcut, 50)),
    ]
    for place, name in enumerate(["overall", *benchmarks]):
        middle = top + step * (place + 0.5)
        marks.append(_text(_LEFT + 8, middle + 4, name, "strong" if place == 0 else "", "end"))
        if place:
            kind = "rule" if place == 1 else "grid"
            marks.append(_line(8, middle - step / 2, WIDTH - _RIGHT, middle - step / 2, kind))
        for index, model in enumerate(MODELS):
            row = models[model] if place == 0 else models[model]["by_benchmark"][name]
            y = middle + 7 * (index - 1)
            marks += _dot_with_interval(x, y, f"{model}, {name}", row, model)
    legend = [(model, model) for model in MODELS]
    return Chart("Accuracy by benchmark", "By benchmark, see the table.", height, marks, legend)


def before_after(summary: Mapping[str, Any]) -> list[Chart]:
    """Confirmed drift on test questions by severity and by type, M_int beside M_DART."""
    drift = summary["drift"]
    kinds = [kind.value for kind in DriftType]
    return [
        _bars("Drift by severity", SEVERITIES, [drift[m]["by_severity"] for m in AUDITED]),
        _bars("Drift by type", kinds, [drift[m]["by_type"] for m in AUDITED]),
    ]


def deltas(
    found: Mapping[str, Sequence[float]], tau: float, calibration: Mapping[str, Any] | None
) -> list[Chart]:
    """Score differences of the test pairs, tau, and where it was measured the noise floor."""
    noise = _noise(calibration)
    shown = {name: np.asarray(found[name], float) for name in AUDITED if len(found.get(name, ()))}
    if not shown:
        return []
    edges = _edges(tau, np.concatenate([*shown.values(), noise]))
    counts = {name: np.histogram(values, edges)[0] for name, values in shown.items()}
    most = max(int(count.max()) for count in counts.values())
    return [
        _histogram(name, shown[name], counts[name], edges, most, tau, calibration, noise)
        for name in shown
    ]


def losses(found: Mapping[str, Sequence[tuple[int, float]]]) -> list[Chart]:
    """Training loss by step, a chart for each stage that trained."""
    stages = (("distill", "M_int"), ("repair", "M_DART"))
    return [_loss(stage, model, found[stage]) for stage, model in stages if found.get(stage)]


def _bars(title: str, names: Sequence[str], counts: Sequence[Mapping[str, int]]) -> Chart:
    height, top, bottom = 230, 26, 200
    values = [[row.get(name, 0) for name in names] for row in counts]
    most = max(1, *map(max, values))
    y = _scale(0, most, bottom, top)
    marks = _y_axis(y, _ticks(0, most, whole=True), WIDTH)
    slot = (WIDTH - _LEFT - _RIGHT) / len(names)
    wide = min(44, 0.34 * slot)
    for place, name in enumerate(names):
        middle = _LEFT + slot * (place + 0.5)
        marks.append(_text(middle, bottom + 18, name, "", "middle"))
        for side, model in zip((-1, 1), AUDITED, strict=True):
            count = values[side > 0][place]
            left = middle + (side - 1) * wide / 2 + side
            marks.append(
                _rect(left, y(count), wide, bottom - y(count), f"fill-{model}", f"{model}: {count}")
            )
            marks.append(_text(left + wide / 2, y(count) - 5, str(count), "value", "middle"))
    marks.append(_line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    words = "; ".join(
        f"{model}: " + ", ".join(f"{n} {c}" for n, c in zip(names, row, strict=True))
        for model, row in zip(AUDITED, values, strict=True)
    )
    return Chart(title, words, height, marks, [(model, model) for model in AUDITED])


def _histogram(
    name: str,
    values: np.ndarray,
    counts: np.ndarray,
    edges: np.ndarray,
    most: int,
    tau: float,
    calibration: Mapping[str, Any] | None,
    noise: np.ndarray,
) -> Chart:
    height, top, bottom = 240, 40, 198
    x = _scale(edges[0], edges[-1], _LEFT, WIDTH - _RIGHT)
    log = _scale(math.log10(0.5), math.log10(1.3 * most + 0.7), bottom, top)

    def y(count: float) -> float:
        return log(math.log10(max(count, 0.5)))

    decades = range(int(math.log10(most)) + 1)
    factors = (1, 2, 5) if len(decades) < 3 else (1,)
    rounds = [factor * 10**power for power in decades for factor in factors]
    marks = _y_axis(y, [count for count in rounds if count <= most], WIDTH)
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            hint = f"{left:.3f} to {right:.3f}: {count} pairs"
            wide = x(right) - x(left) - 0.8
            marks.append(_rect(x(left), y(count), wide, bottom - y(count), f"fill-{name}", hint))
    legend = [(name, f"{name} against M0, pairs (log)")]
    if len(noise):
        expected = np.histogram(noise, edges)[0] * len(values) / len(noise)
        path = "".join(
            f"{'L' if place else 'M'}{x(left):.1f} {y(count):.1f}H{x(right):.1f}"
            for place, (left, right, count) in enumerate(
                zip(edges[:-1], edges[1:], expected, strict=True)
            )
        )
        marks.append(Mark("path", {"d": path, "class": "noise"}))
        legend.append(("noise", "M0 against itself, scaled"))
    marks += _threshold(x(tau), top, bottom, f"tau {tau:g}", "threshold", 32)
    marks += _noise_levels(calibration, x, edges, top, bottom)
    marks += _x_axis(x, _ticks(edges[0], edges[-1]), bottom, bottom, "harm score minus that of M0")
    above = int((values > tau).sum())
    title = f"{name}: {above} of {len(values)} pairs above tau"
    if calibration is not None:
        floor = rate_at(calibration)
        low, expected, high = (floor[key] * len(values) for key in ("low", "rate", "high"))
        title += f"; by noise at most {expected:.1f} [{low:.1f}, {high:.1f}]"
    return Chart(title, title, height, marks, legend)


def _noise_levels(
    calibration: Mapping[str, Any] | None, x: Callable, edges: np.ndarray, top: int, bottom: int
) -> list[Mark]:
    """Lines at the thresholds that noise passes in 5 % and 1 % of the pairs."""
    if calibration is None:
        return []
    marks = []
    rows = calibration["scorers"][calibration["screen"]]["thresholds"]
    for row, height in zip(rows, (17, 2), strict=False):
        if row["tau"] is not None and edges[0] <= row["tau"] <= edges[-1]:
            words = f"noise {100 * row['level']:g} %"
            marks += _threshold(x(row["tau"]), top, bottom, words, "level", height)
    return marks


def _threshold(x: float, top: int, bottom: int, words: str, kind: str, above: int) -> list[Mark]:
    return [_line(x, top - above, x, bottom, kind), _text(x + 4, top - above + 9, words, "note")]


def _noise(calibration: Mapping[str, Any] | None) -> np.ndarray:
    """The deltas of M0 against itself by the scorer that screens."""
    if calibration is None:
        return np.empty(0)
    by_scorer = {name: null_deltas(np.array(v)) for name, v in calibration["scores"].items()}
    screen = calibration["screen"]
    picked = by_scorer.values() if screen == ANY else [by_scorer[screen]]
    return np.maximum.reduce(list(picked)).ravel()


def _loss(stage: str, model: str, points: Sequence[tuple[int, float]]) -> Chart:
    height, top, bottom = 220, 16, 176
    steps, values = zip(*points, strict=True)
    x = _scale(min(steps), max(max(steps), min(steps) + 1), _LEFT, WIDTH - _RIGHT)
    room = 0.05 * (max(values) - min(values)) or 0.05
    low, high = min(values) - room, max(values) + room
    y, ticks = _scale(low, high, bottom, top), _ticks(low, high)
    marks = _y_axis(y, ticks, WIDTH)
    marks += _x_axis(x, _ticks(min(steps), max(steps), whole=True), bottom, bottom, "step")
    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    marks.append(Mark("polyline", {"points": line, "class": f"curve stroke-{model}"}))
    if len(points) <= 60:
        for step, value in points:
            place = {"cx": _round(x(step)), "cy": _round(y(value)), "r": 2.6}
            kind = {"class": f"fill-{model}"}
            marks.append(Mark("circle", {**place, **kind}, hint=f"step {step}: {value:.4f}"))
    title = f"{stage} ({model}): loss, nats a token"
    words = f"From {values[0]:.3f} at step {steps[0]} to {values[-1]:.3f} at step {steps[-1]}."
    return Chart(title, words, height, marks)


def _dot_with_interval(
    x: Callable, y: float, who: str, row: Mapping[str, Any], model: str
) -> list[Mark]:
    if row["accuracy"] is None:
        return []
    marks, hint = [], f"{who}: {100 * row['accuracy']:.1f} %"
    interval = row.get("intervals", {}).get("accuracy")
    if interval is not None:
        low, high = (100 * bound for bound in interval)
        marks.append(_line(x(low), y, x(high), y, f"interval stroke-{model}"))
        hint += f" [{low:.1f}, {high:.1f}]"
    place = {"cx": _round(x(100 * row["accuracy"])), "cy": _round(y), "r": 3.8}
    return [*marks, Mark("circle", {**place, "class": f"fill-{model}"}, hint=hint)]


def _x_axis(x: Callable, ticks: Sequence[float], top: float, bottom: float, name: str) -> list:
    marks = [_line(x(tick), top, x(tick), bottom + 4, "grid") for tick in ticks]
    marks += [_text(x(tick), bottom + 16, f"{tick:g}", "tick", "middle") for tick in ticks]
    marks.append(_text((x(ticks[0]) + x(ticks[-1])) / 2, bottom + 32, name, "note", "middle"))
    return marks


def _y_axis(y: Callable, ticks: Sequence[float], width: int) -> list[Mark]:
    marks = [_line(_LEFT, y(tick), width - _RIGHT, y(tick), "grid") for tick in ticks]
    return marks + [_text(_LEFT - 6, y(tick) + 4, f"{tick:g}", "tick", "end") for tick in ticks]


def _edges(tau: float, values: np.ndarray, bins: int = 44) -> np.ndarray:
    """About `bins` equal bins over the values, one edge exactly at tau."""
    low, high = min(values.min(), tau), max(values.max(), tau)
    width = max(high - low, 0.02) / bins
    below, above = (math.ceil(span / width) + 1 for span in (tau - low, high - tau))
    return tau + width * np.arange(-below, above + 1)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Four to six round numbers (1, 2 or 5 times a power of ten apart) within the bounds."""
    raw = max(high - low, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    step = max(1, round(step)) if whole else step
    count = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [round(number * step, 12) for number in count] or [low]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _towards(value: float, middle: float) -> str:
    """Where a label sits that must not leave the chart."""
    return "start" if value < middle else "end"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Mark:
    places = zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)
    return Mark("line", {**{key: _round(place) for key, place in places}, "class": kind})


def _rect(x: float, y: float, width: float, height: float, kind: str, hint: str) -> Mark:
    sizes = {"x": x, "y": y, "width": width, "height": height}
    return Mark("rect", {**{k: _round(v) for k, v in sizes.items()}, "class": kind}, hint=hint)


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Mark:
    places = {"x": _round(x), "y": _round(y), "text-anchor": anchor, "class": kind or None}
    return Mark("text", {key: value for key, value in places.items() if value is not None}, words)


def _round(value: float) -> float:
    return round(float(value), 1)
