"""Draw the figures of a sweep, by matplotlib: a mark for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dart_jax.evaluate.sweep_table import SweepRow, SweepTable
from dart_jax.report.figures import COLOURS, INK, legend_right, literal, new_figure, write_in_place
from dart_jax.summaries import Estimate

# Of the same palette, for the variants of a sweep; with markers for those who see no colour.
_VARIANT_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#4D4D4D")
_VARIANT_MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<", ">", "h", "*")


def accuracy_against_drift(table: SweepTable) -> Any:
    """Draw a sweep: a point a seed, each model's mean with intervals, M0 and the shortcut."""
    figure, axes = new_figure(width=8.6, height=4.8)
    if not table.rows:
        return write_in_place(figure, axes, "no run is done")

    references = [("shortcut", table.shortcut.mean, INK, "--")]
    for row in table.rows:
        if row.model == "M0":
            references.append((row.name, row.metrics["accuracy"].mean, COLOURS["M0"], ":"))
    for name, accuracy, colour, style in references:
        if accuracy is not None:
            line = {"color": colour, "linestyle": style, "linewidth": 1.4}
            axes.axhline(100 * accuracy, label=literal(name), **line)

    trained = [row for row in table.rows if row.model != "M0"]
    for index, row in enumerate(trained):
        if row.model == "M_int":
            _cloud(axes, row, COLOURS["M_int"], "X")
        else:
            colour = _VARIANT_COLOURS[index % len(_VARIANT_COLOURS)]
            _cloud(axes, row, colour, _VARIANT_MARKERS[index % len(_VARIANT_MARKERS)])

    axes.set(xlabel="remaining drift (% of the test pairs)", ylabel="accuracy (%)")
    axes.margins(0.08)
    low, high = axes.get_xlim()
    low = min(0.0, low)
    axes.set_xlim(low, high + 0.03 * (high - low))  # or 0 would leave the last marker no margin
    axes.grid()
    if not axes.get_legend_handles_labels()[0]:
        return write_in_place(figure, axes, "no test question was answered")
    legend_right(figure)
    return figure


def dose_response(table: SweepTable) -> Any:
    """Draw, for each variant, the planted faults left of each severity against its loss weight.

    A point is the mean over the seeds, a whisker its t interval; minor to extreme are joined.
    """
    figure, axes = new_figure(width=8.6, height=4.8)
    repaired = [row for row in table.rows if row.weights and row.metrics["planted"].n]
    if not repaired:
        return write_in_place(figure, axes, "no planted fault was repaired")

    for index, row in enumerate(repaired):
        points = []
        for severity, weight in row.weights.items():
            left = row.metrics[f"left_{severity}"]
            if left.mean is not None:
                points.append((weight, left.estimate, severity))
        _response(axes, row.name, points, index)

    axes.set(
        xlabel="loss weight of a repair target (log)",
        ylabel="planted faults left (% of M_int's)",
        xscale="log",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_ylim(bottom=0)
    axes.grid()
    legend_right(figure)
    return figure


def _response(
    axes: Any, name: str, points: Sequence[tuple[float, Estimate, str]], index: int
) -> None:
    """Draw one variant's line, each point with the initial of its severity."""
    colour = _VARIANT_COLOURS[index % len(_VARIANT_COLOURS)]
    marker = _VARIANT_MARKERS[index % len(_VARIANT_MARKERS)]
    weights = [weight for weight, _, _ in points]
    shares = [100 * left.value for _, left, _ in points]
    axes.plot(weights, shares, color=colour, marker=marker, label=literal(name))

    for (weight, left, severity), share in zip(points, shares, strict=True):
        if left.low is not None:
            reach = [[share - max(0.0, 100 * left.low)], [100 * left.high - share]]
            axes.errorbar(weight, share, reach, color=colour, capsize=3, alpha=0.5, linewidth=1)
        axes.annotate(
            severity[:2],
            (weight, share),
            textcoords="offset points",
            xytext=(5, 4),
            fontsize=8,
            color=colour,
        )


def _cloud(axes: Any, row: SweepRow, colour: str, marker: str) -> None:
    """Draw one model of a sweep: its seeds as points, their mean with the t intervals."""
    drift, accuracy = row.metrics["drift"], row.metrics["accuracy"]
    seeds = []
    for seed, value in accuracy.values.items():
        if value is not None and drift.values[seed] is not None:
            seeds.append(seed)
    if not seeds:  # no test prompt left room for an answer, under any seed
        return

    x = [100 * drift.values[seed] for seed in seeds]
    y = [100 * accuracy.values[seed] for seed in seeds]
    axes.scatter(x, y, s=22, color=colour, marker=marker, alpha=0.45, linewidths=0)
    axes.errorbar(
        100 * drift.mean,
        100 * accuracy.mean,
        xerr=None if drift.high is None else 100 * (drift.high - drift.mean),
        yerr=None if accuracy.high is None else 100 * (accuracy.high - accuracy.mean),
        color=colour,
        marker=marker,
        markersize=9,
        linestyle="none",
        capsize=3,
        linewidth=1.2,
        label=literal(f"{row.name} (n = {accuracy.n})"),
    )
