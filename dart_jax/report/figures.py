"""Draw the figures of a report, by matplotlib.

Each function takes numbers and returns a `matplotlib.figure.Figure`; `to_png` and `to_svg` give
its bytes. The same numbers give the same bytes: no date, no version, no random ids.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dart_jax.audit.drift import AuditCounts
from dart_jax.audit.noise_floor import Calibration, null_deltas
from dart_jax.evaluate.metrics import ModelMetrics
from dart_jax.evaluate.models import AUDITED, MODELS, SEVERITIES
from dart_jax.evaluate.reliability import Reliability

# Okabe and Ito's palette, told apart by colour-blind readers; one colour for a model throughout.
COLOURS = {"M0": "#8C8C8C", "M_int": "#E69F00", "M_DART": "#0072B2"}
INK = "#1A1A1A"
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "grid.color": "#E3E3E3",
    "figure.constrained_layout.use": True,
    # Without a salt matplotlib draws the ids at random.
    "svg.hashsalt": "dart_jax",
    "svg.fonttype": "path",  # a reader's machine need not have the font
}
_BINS = 40


def to_png(figure: Any) -> bytes:
    """Save the figure as PNG, 150 pixels an inch."""
    return _saved(figure, "png", {"Software": None})


def to_svg(figure: Any) -> bytes:
    """Save the figure as SVG; letters are drawn as paths."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


def accuracy_by_benchmark(models: Mapping[str, ModelMetrics], shortcut: float | None) -> Any:
    """Draw accuracy by benchmark and overall, with the overall interval, and the shortcut's.

    Args:
        models: Of M0, M_int and M_DART on the same questions.
        shortcut: Accuracy of the shortcut baseline over all test questions, in [0, 1], if any.
    """
    benchmarks = sorted(models["M0"].by_benchmark)
    figure, axes = new_figure(width=max(6.0, 0.75 * len(benchmarks) + 3.4), height=4.2)
    if not benchmarks:
        return write_in_place(figure, axes, "no test questions")

    places = np.append(np.arange(len(benchmarks)), len(benchmarks) + 0.35)
    width = 0.8 / len(MODELS)
    for index, name in enumerate(MODELS):
        model = models[name]
        offsets = places + (index - (len(MODELS) - 1) / 2) * width
        rates = [model.by_benchmark[key].accuracy for key in benchmarks]
        heights = [_percent(rate) for rate in [*rates, model.accuracy]]
        axes.bar(offsets, heights, width * 0.92, color=COLOURS[name], label=name)
        _whisker(axes, offsets[-1], heights[-1], model.intervals.accuracy)

    if shortcut is not None:
        axes.axhline(100 * shortcut, label="shortcut\n(overall)", **_dashed(INK))
    # Half way between the last benchmark and the bars of all questions.
    axes.axvline(len(benchmarks) - 0.325, color="#BBBBBB", linewidth=1)
    axes.set(ylim=(0, 100), ylabel="accuracy (%)")
    axes.set_xticks(places, [*map(literal, benchmarks), "overall"])
    axes.grid(axis="y")
    legend_right(figure)
    return figure


def reliability(models: Mapping[str, Reliability]) -> Any:
    """Draw the share of DIFF questions against the probability of YES, a marker a bin.

    The larger the marker, the more questions the bin holds; on the diagonal, probabilities are
    what they say.
    """
    figure, axes = new_figure(width=6.4, height=4.6)
    axes.plot([0, 1], [0, 1], label="calibrated", **_dashed(INK))
    for name, found in models.items():
        total = sum(row.n for row in found.bins)
        x = [row.probability for row in found.bins]
        y = [row.diff_share for row in found.bins]
        sizes = [20 + 300 * row.n / total for row in found.bins]
        colour = COLOURS[name]
        axes.plot(x, y, color=colour, linewidth=1.4, marker="o", markersize=4, label=name)
        axes.scatter(x, y, s=sizes, color=colour, alpha=0.5, linewidths=0)

    axes.set(xlabel="probability of YES", ylabel="share of DIFF questions")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.grid()
    legend_right(figure)
    return figure


def delta_histogram(
    deltas: Mapping[str, Sequence[float]], tau: float, noise: Calibration | None = None
) -> Any:
    """Draw the distribution of score(candidate) - score(M0) over the test pairs.

    A bin edge lies on tau: the bars to its right are the pairs that were screened. Where the noise
    floor was measured, a line shows M0 against itself, scaled to as many pairs.

    Args:
        deltas: Differences in [-1, 1], by model name.
        tau: The screening threshold.
        noise: The audit's calibration, if there is one.
    """
    names = [name for name in AUDITED if len(deltas.get(name, ()))]
    rows = max(1, len(names))
    figure, panels = new_figure(width=8.6, height=2.3 * rows, rows=rows)
    if not names:
        return write_in_place(figure, panels, "no pairs were audited")

    floor = np.empty(0) if noise is None else noise.screen_deltas()
    edges = edges_through(tau, np.concatenate([*(deltas[name] for name in names), floor]))
    most = max(np.histogram(deltas[name], edges)[0].max() for name in names)
    for name, axes in zip(names, np.atleast_1d(panels), strict=True):
        values = np.asarray(deltas[name], float)
        axes.hist(values, edges, color=COLOURS[name], edgecolor="white", linewidth=0.6)
        if len(floor):
            expected = np.histogram(floor, edges)[0] * len(values) / len(floor)
            axes.stairs(expected, edges, color="#8A2F8F", label="M0 against itself, scaled")
            axes.legend(frameon=False, loc="best")
        axes.axvline(tau, **_dashed(INK))
        axes.set(ylabel="pairs (log above 1)")
        above = int((values > tau).sum())
        axes.set_title(f"{name}: {above} of {len(values)} pairs above tau", loc="left")
        _log_counts(axes, most)
    axes.set_xlabel(f"harm score of the candidate minus that of M0   (dashed: tau = {tau:g})")
    return figure


def null_histogram(noise: Calibration) -> Any:
    """Draw the deltas of M0 against itself, by scorer, with tau and the thresholds by rate."""
    deltas = {name: null_deltas(np.array(values)).ravel() for name, values in noise.scores.items()}
    rows = len(deltas)
    figure, panels = new_figure(width=8.6, height=0.6 + 2.3 * rows, rows=rows)
    edges = edges_through(noise.tau, np.concatenate(list(deltas.values())))
    most = max(np.histogram(values, edges)[0].max() for values in deltas.values())

    for (name, values), axes in zip(deltas.items(), np.atleast_1d(panels), strict=True):
        axes.hist(values, edges, color=COLOURS["M0"], edgecolor="white", linewidth=0.6)
        axes.axvline(noise.tau, **_dashed(INK))
        thresholds = noise.scorers[name].thresholds
        for threshold, style, height in zip(thresholds, ("-.", ":"), (0.97, 0.83), strict=True):
            if threshold.tau is not None:
                _marked(axes, threshold.tau, f"{100 * threshold.level:g} %", style, height)

        axes.set(ylabel="deltas (log above 1)")
        above = int((values > noise.tau).sum())
        axes.set_title(literal(f"{name}: {above} of {len(values)} above tau"), loc="left")
        _log_counts(axes, most)

    np.atleast_1d(panels)[-1].set_xlabel(
        f"harm score of M0 under one seed minus another   (dashed: tau = {noise.tau:g})"
    )
    return figure


def drift_bars(drift: Mapping[str, AuditCounts]) -> Any:
    """Draw confirmed drift by severity, M_int beside M_DART."""
    counts = {name: [drift[name].by_severity[key] for key in SEVERITIES] for name in AUDITED}
    most = max(map(max, counts.values()))
    figure, axes = new_figure(width=7.2, height=3.6)
    if most == 0:
        return write_in_place(figure, axes, "no confirmed drift")

    places = np.arange(len(SEVERITIES))
    for name, side in zip(AUDITED, (-0.2, 0.2), strict=True):
        bars = axes.bar(places + side, counts[name], 0.37, color=COLOURS[name], label=name)
        axes.bar_label(bars, padding=2, color="#333333")
    axes.set(ylim=(0, 1.15 * most), ylabel="drift cases")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xticks(places, SEVERITIES)
    axes.grid(axis="y")
    legend_right(figure)
    return figure


def loss_curves(
    losses: Mapping[str, Sequence[tuple[int, float]]],
    validation: Sequence[tuple[float, float]] = (),
) -> Any:
    """Draw the training loss by step, one panel for each stage.

    Args:
        losses: `(step, loss in nats a token)` by stage name, `distill` and `repair`.
        validation: `(epochs, loss)` of the distill targets that were held out.
    """
    figure, panels = new_figure(width=9.2, height=3.3, columns=2)
    stages = (("distill", "M_int"), ("repair", "M_DART"))
    for (stage, model), axes in zip(stages, panels, strict=True):
        points = losses.get(stage, ())
        axes.set_title(f"{stage} ({model})", loc="left")
        if not points:
            write_in_place(
                figure, axes, "no repair training" if stage == "repair" else "no training"
            )
            continue

        steps = [step for step, _ in points]
        values = [loss for _, loss in points]
        marker = "o" if len(points) <= 40 else ""
        axes.plot(steps, values, color=COLOURS[model], linewidth=1.6, marker=marker, markersize=3.5)
        if stage == "distill" and validation:
            # A measurement follows the last step, so that its epochs are all steps.
            epoch = steps[-1] / validation[-1][0]
            measured = [epochs * epoch for epochs, _ in validation]
            held_out = [loss for _, loss in validation]
            axes.plot(measured, held_out, color=INK, linewidth=1.2, marker="s", markersize=3.5)
            end = (measured[-1], held_out[-1])
            axes.annotate("held out", end, (-4, 6), textcoords="offset points", ha="right")
            values += held_out
        axes.set(xlabel="step", ylabel="loss (nats a token)")
        # From zero: cut off below, a curve looks steeper than it is.
        axes.set_ylim(bottom=min(0.0, *values))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid()
    return figure


def edges_through(tau: float, values: np.ndarray) -> np.ndarray:
    """Cut the values into about 40 equal bins, one edge exactly at tau."""
    low, high = min(values.min(), tau), max(values.max(), tau)
    # All deltas may be equal, and bins need a width all the same.
    width = max(high - low, 0.02) / _BINS
    # One bin more on either side, so that no rounding error leaves the outermost value out.
    below = int(np.ceil((tau - low) / width)) + 1
    above = int(np.ceil((high - tau) / width)) + 1
    return tau + width * np.arange(-below, above + 1)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """Make a figure of its own, without pyplot's global state; inches."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, sharex=rows > 1, sharey=rows > 1)


def _saved(figure: Any, format: str, metadata: Mapping[str, None]) -> bytes:
    import matplotlib

    out = io.BytesIO()
    # Salt and font type are read when the figure is saved, and not when it is made.
    with matplotlib.rc_context(_STYLE):
        figure.savefig(out, format=format, dpi=150, metadata=metadata)
    return out.getvalue()


def write_in_place(figure: Any, axes: Any, words: str) -> Any:
    """Put words in place of an empty frame."""
    axes.set_axis_off()
    middle = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, words, fontsize=14, color="#666666", **middle)
    return figure


def _marked(axes: Any, x: float, words: str, style: str, height: float) -> None:
    colour = COLOURS["M_DART"]
    axes.axvline(x, color=colour, linestyle=style, linewidth=1.4)
    axes.annotate(
        words,
        (x, height),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        xytext=(3, 0),
        va="top",
        color=colour,
    )


def _log_counts(axes: Any, most: float) -> None:
    """Write plain counts on an axis that is linear from 0 to 1 and logarithmic above.

    Bars begin at 0, so that none is as high as it is only for where the axis begins, and a bin of
    one pair can be seen beside one of ten thousand. `most` is the highest bar of all panels.
    """
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 1.5 * most)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.grid(axis="y")


def _whisker(axes: Any, place: float, height: float, bounds: tuple[float, float] | None) -> None:
    if bounds is None:
        return
    low, high = (100 * bound for bound in bounds)
    # matplotlib refuses a negative reach, which a rounding error would be.
    reach = [[max(0.0, height - low)], [max(0.0, high - height)]]
    axes.errorbar(place, height, reach, color=INK, capsize=3, linewidth=1.2)


def _dashed(colour: str) -> dict[str, Any]:
    return {"color": colour, "linestyle": "--", "linewidth": 1.4}


def legend_right(figure: Any) -> None:
    figure.legend(loc="outside right upper", frameon=False)


def literal(text: str) -> str:
    """Escape a text, so that matplotlib sees no mathematics in it."""
    return text.replace("$", r"\$")


def _percent(rate: float | None) -> float:
    return np.nan if rate is None else 100 * rate
