"""Draw the figures of a sweep, by matplotlib: a mark for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dart_jax.evaluate.models import SEVERITIES
from dart_jax.evaluate.over_seeds import OverSeeds
from dart_jax.evaluate.sweep_rows import SweepRow
from dart_jax.evaluate.sweep_table import SweepTable
from dart_jax.report.figures import COLOURS, INK, legend_right, literal, new_figure, write_in_place

# Of the same palette, for the variants of a sweep; with markers for those who see no colour.
# Their numbers have no common factor: a colour with the same marker comes back after 66 variants.
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
    """Draw the planted faults left against the loss weight, a panel a severity, a mark a variant.

    Within a panel the faults are the same and only the weight differs. Small marks are seeds, the
    large one their mean; the intervals are the table's.
    """
    repaired = [row for row in table.rows if row.weights and row.metrics["planted"].n]
    if not repaired:
        return write_in_place(*new_figure(width=8.6, height=4.8), "no planted fault was repaired")

    figure, panels = new_figure(width=11, height=4.2, columns=len(SEVERITIES))
    most_left = _most_left(repaired)
    for axes, severity in zip(panels, SEVERITIES, strict=True):
        weights = []
        for index, row in enumerate(repaired):
            if severity in row.weights:
                weights.append(row.weights[severity])
                _response(axes, row.name, weights[-1], row.metrics[f"left_{severity}"], index)
        axes.set(title=severity, xscale="log", ylim=(-3, most_left))
        _write_weights(axes, weights)
        axes.tick_params(labelleft=severity == SEVERITIES[0])
        axes.grid()

    panels[0].set_ylabel("planted faults left (% of M_int's)")
    figure.supxlabel("mean loss weight of a repair target (log)")
    # Once by name: a variant has a mark only in the panels whose severity it repaired.
    marks: dict[str, Any] = {}
    for axes in panels:
        drawn, names = axes.get_legend_handles_labels()
        marks |= dict(zip(names, drawn, strict=True))
    figure.legend(marks.values(), marks, loc="outside right upper", frameon=False)
    return figure


def _most_left(rows: Sequence[SweepRow]) -> float:
    """The upper end of all panels, in per cent: above 100 where a severity has more than before."""
    shares = [1.0]
    for row in rows:
        for severity in SEVERITIES:
            values = row.metrics[f"left_{severity}"].values.values()
            shares += [share for share in values if share is not None]
    return 105 * max(shares)


def _write_weights(axes: Any, weights: Sequence[float]) -> None:
    """Write each weight once; a log axis has no ticks between 1 and 4 of itself."""
    shown: list[float] = []
    for weight in sorted(weights):
        if not shown or weight > 1.15 * shown[-1]:
            shown.append(weight)
    axes.set_xticks(shown, [f"{weight:.2g}" for weight in shown])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.25)


def _response(axes: Any, name: str, weight: float, left: OverSeeds, index: int) -> None:
    """Draw one variant in a panel: its seeds, and their mean."""
    shares = [100 * share for share in left.values.values() if share is not None]
    if not shares:
        return
    mark = {
        "color": _VARIANT_COLOURS[index % len(_VARIANT_COLOURS)],
        "marker": _VARIANT_MARKERS[index % len(_VARIANT_MARKERS)],
    }
    axes.scatter([weight] * len(shares), shares, s=14, alpha=0.4, linewidths=0, **mark)
    axes.plot([weight], [100 * left.mean], markersize=9, ls="none", label=literal(name), **mark)


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
        xerr=_reach(drift),
        yerr=_reach(accuracy),
        color=colour,
        marker=marker,
        markersize=9,
        linestyle="none",
        capsize=3,
        linewidth=1.2,
        label=literal(f"{row.name} (n = {accuracy.n})"),
    )


def _reach(found: OverSeeds) -> list[list[float]] | None:
    """Say how far an interval reaches below and above its mean, in points."""
    if found.low is None:
        return None
    return [[100 * (found.mean - found.low)], [100 * (found.high - found.mean)]]
