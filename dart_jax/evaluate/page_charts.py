"""The charts of the report page, as marks that the template writes as inline SVG.

Colours and fonts are classes of `page.css`, so that a chart follows the page's light or dark
scheme; sizes are in CSS pixels at full width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dart_jax.audit.noise_floor import null_deltas, rate_at
from dart_jax.audit.scorers import ANY
from dart_jax.evaluate.page_marks import (
    LEFT,
    RIGHT,
    WIDTH,
    Chart,
    Mark,
    line,
    rect,
    rounded,
    scale,
    text,
    ticks,
    x_axis,
    y_axis,
)
from dart_jax.evaluate.summary import AUDITED, MODELS, SEVERITIES
from dart_jax.records import DriftType


def accuracy(summary: Mapping[str, Any]) -> Chart:
    """Accuracy by benchmark: a row each, a dot for each model, the shortcut as a dashed line."""
    models = summary["models"]
    benchmarks = sorted(models["M0"]["by_benchmark"])
    step, top = 30, 30
    height = top + step * (len(benchmarks) + 1) + 34
    x = scale(0, 100, LEFT + 18, WIDTH - RIGHT)
    marks = x_axis(x, range(0, 101, 20), top, height - 34, "accuracy, %")
    shortcut = 100 * summary["shortcut_baseline"]["accuracy"]
    side = "start" if shortcut < 50 else "end"  # the label must not leave the chart
    marks += [
        line(x(shortcut), top - 6, x(shortcut), height - 34, "threshold"),
        text(x(shortcut), top - 12, f"shortcut {shortcut:.1f}", "note", side),
    ]
    for place, name in enumerate(["overall", *benchmarks]):
        middle = top + step * (place + 0.5)
        marks.append(text(LEFT + 8, middle + 4, name, "strong" if place == 0 else "", "end"))
        if place:
            kind = "rule" if place == 1 else "grid"
            marks.append(line(8, middle - step / 2, WIDTH - RIGHT, middle - step / 2, kind))
        marks += _shortcut_tick(x, middle, step, summary["shortcut_baseline"], name)
        for index, model in enumerate(MODELS):
            row = models[model] if place == 0 else models[model]["by_benchmark"][name]
            y = middle + 7 * (index - 1)
            marks += _dot_with_interval(x, y, f"{model}, {name}", row, model)
    legend = [(model, model) for model in MODELS]
    return Chart("Accuracy by benchmark", "By benchmark, see the table.", height, marks, legend)


def _shortcut_tick(
    x: Callable, middle: float, step: float, shortcut: Mapping[str, Any], name: str
) -> list[Mark]:
    """The baseline on one benchmark, where it is known."""
    row = shortcut.get("by_benchmark", {}).get(name)
    if row is None or row["accuracy"] is None:
        return []
    at = x(100 * row["accuracy"])
    place = {"x1": rounded(at), "x2": rounded(at), "class": "shortcut"}
    ends = {"y1": rounded(middle - step / 2 + 4), "y2": rounded(middle + step / 2 - 4)}
    hint = f"shortcut, {name}: {100 * row['accuracy']:.1f} %"
    return [Mark("line", {**place, **ends}, hint=hint)]


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
    y = scale(0, most, bottom, top)
    marks = y_axis(y, ticks(0, most, whole=True))
    slot = (WIDTH - LEFT - RIGHT) / len(names)
    wide = min(44, 0.34 * slot)
    for place, name in enumerate(names):
        middle = LEFT + slot * (place + 0.5)
        marks.append(text(middle, bottom + 18, name, "", "middle"))
        for side, model in zip((-1, 1), AUDITED, strict=True):
            count = values[side > 0][place]
            left = middle + (side - 1) * wide / 2 + side
            marks.append(
                rect(left, y(count), wide, bottom - y(count), f"fill-{model}", f"{model}: {count}")
            )
            marks.append(text(left + wide / 2, y(count) - 5, str(count), "value", "middle"))
    marks.append(line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
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
    x = scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    log = scale(math.log10(0.5), math.log10(1.3 * most + 0.7), bottom, top)

    def y(count: float) -> float:
        return log(math.log10(max(count, 0.5)))

    decades = range(int(math.log10(most)) + 1)
    factors = (1, 2, 5) if len(decades) < 3 else (1,)
    rounds = [factor * 10**power for power in decades for factor in factors]
    marks = y_axis(y, [count for count in rounds if count <= most])
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            hint = f"{left:.3f} to {right:.3f}: {count} pairs"
            wide = x(right) - x(left) - 0.8
            marks.append(rect(x(left), y(count), wide, bottom - y(count), f"fill-{name}", hint))
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
    marks += x_axis(x, ticks(edges[0], edges[-1]), bottom, bottom, "harm score minus that of M0")
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
    return [line(x, top - above, x, bottom, kind), text(x + 4, top - above + 9, words, "note")]


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
    x = scale(min(steps), max(max(steps), min(steps) + 1), LEFT, WIDTH - RIGHT)
    room = 0.05 * (max(values) - min(values)) or 0.05
    low, high = min(values) - room, max(values) + room
    y = scale(low, high, bottom, top)
    marks = y_axis(y, ticks(low, high))
    marks += x_axis(x, ticks(min(steps), max(steps), whole=True), bottom, bottom, "step")
    points_of = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    marks.append(Mark("polyline", {"points": points_of, "class": f"curve stroke-{model}"}))
    if len(points) <= 60:
        for step, value in points:
            place = {"cx": rounded(x(step)), "cy": rounded(y(value)), "r": 2.6}
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
        marks.append(line(x(low), y, x(high), y, f"interval stroke-{model}"))
        hint += f" [{low:.1f}, {high:.1f}]"
    place = {"cx": rounded(x(100 * row["accuracy"])), "cy": rounded(y), "r": 3.8}
    return [*marks, Mark("circle", {**place, "class": f"fill-{model}"}, hint=hint)]


def _edges(tau: float, values: np.ndarray, bins: int = 44) -> np.ndarray:
    """About `bins` equal bins over the values, one edge exactly at tau."""
    low, high = min(values.min(), tau), max(values.max(), tau)
    width = max(high - low, 0.02) / bins
    below, above = (math.ceil(span / width) + 1 for span in (tau - low, high - tau))
    return tau + width * np.arange(-below, above + 1)
