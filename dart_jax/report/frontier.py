"""Write the section on the frontier: accuracy against drift at parts of M_int's adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dart_jax.evaluate.metrics import ModelMetrics
from dart_jax.evaluate.planted import PlantedCounts
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Column, Figure, Section, note, with_values
from dart_jax.report.figures import COLOURS, legend_right, new_figure
from dart_jax.report.forced import FORCED_COLUMNS, forced_cells
from dart_jax.report.protocol import protocol_words
from dart_jax.report.results import captioned
from dart_jax.summaries import Estimate

_COLUMNS = (
    Column("model", "model"),
    Column("strength", "strength", "mass"),
    Column("accuracy", "accuracy", "interval"),
    *FORCED_COLUMNS,
    Column("confirmed", "confirmed drift", "count"),
    Column("rate", "drift, per cent of pairs", "interval"),
    Column("planted", "planted drift", "count"),
)


def frontier(summary: RunSummary) -> Section | None:
    """Write the section; None where no strength was asked for."""
    if not summary.frontier:
        return None

    rows = _rows(summary)
    table = captioned(
        summary,
        "frontier",
        "M0 with parts of M_int's adapter, beside M_DART",
        with_values(_COLUMNS, rows),
        rows,
    )
    measure = "planted drift" if summary.planted is not None else "confirmed drift"
    picture = Figure(
        "frontier",
        f"Accuracy against {measure}, by strength of M_int's adapter; {protocol_words(summary)}",
        draw_frontier(rows, measure),
    )
    words = note(
        "M0 answers with its adapter scaled down: strength 0 is M0 itself, 1 is M_int. This is the "
        "cheapest defence there is, without repairs; a repair is worth its cost where M_DART lies "
        "left of the line at no lower accuracy. Every strength is audited against M0 as M_int is."
    )
    return Section("Frontier", (words, table, picture), anchor="frontier")


def _rows(summary: RunSummary) -> list[dict[str, Any]]:
    """Tabulate M0, the strengths in between, M_int, and M_DART last."""
    rows = [_end(summary, "M0", 0)]
    for point in summary.frontier:
        row = {"model": point.model, "strength": point.strength, **_accuracy(point.test)}
        row |= {"confirmed": point.drift.confirmed, "rate": point.rate}
        rows.append(row | _planted(point.planted))
    return [*rows, _end(summary, "M_int", 1), _end(summary, "M_DART", None)]


def _end(summary: RunSummary, name: str, strength: int | None) -> dict[str, Any]:
    """Tabulate one of the run's three models; M_DART has no strength of M_int's adapter."""
    row = {"model": name, **_accuracy(summary.models[name])}
    if strength is not None:
        row["strength"] = strength

    counts = summary.drift.of(name)
    if counts is not None:
        row["confirmed"] = counts.confirmed
        rate = summary.drift.rates.get(name)
        if rate is not None:
            row["rate"] = Estimate(rate.value, rate.low, rate.high)
    planted = None if summary.planted is None else summary.planted.models[name]
    return row | _planted(planted)


def _accuracy(metrics: ModelMetrics) -> dict[str, Any]:
    return {"accuracy": metrics.estimate("accuracy"), **forced_cells(metrics)}


def _planted(counts: PlantedCounts | None) -> dict[str, Any]:
    if counts is None:
        return {}
    share = counts.drifted / counts.n if counts.n else None
    return {"planted": counts.drifted, "planted_share": share}


def draw_frontier(rows: Sequence[dict[str, Any]], measure: str) -> Any:
    """Draw accuracy against drift: a line through the strengths, M_DART as a star.

    Forced accuracy where every model has it: M0 may write no conclusion line, and its strict
    accuracy would then say nothing of what it knows.
    """
    forced = all(row.get("forced_accuracy") is not None for row in rows)
    figure, axes = new_figure(width=7.2, height=4.2)

    *strengths, repaired = rows
    points = [_point(row, forced, measure) for row in strengths]
    axes.plot(*zip(*points, strict=True), color=COLOURS["M_int"], marker="o", label="M0 to M_int")
    for row, point in zip(strengths, points, strict=True):
        axes.annotate(
            f"{row['strength']:g}", point, textcoords="offset points", xytext=(6, 6), fontsize=9
        )
    x, y = _point(repaired, forced, measure)
    axes.plot([x], [y], color=COLOURS["M_DART"], marker="*", markersize=14, ls="", label="M_DART")

    axes.set(xlabel=f"{measure} (% of the answers)")
    axes.set(ylabel="forced accuracy (%)" if forced else "accuracy (%)")
    axes.margins(0.1)
    axes.grid()
    legend_right(figure)
    return figure


def _point(row: dict[str, Any], forced: bool, measure: str) -> tuple[float, float]:
    """Place a model in the picture, in per cent; nan where something was not measured."""
    accuracy = row["forced_accuracy" if forced else "accuracy"].value
    if measure == "planted drift":
        drift = row.get("planted_share")
    else:
        # M0 is what the others are compared with: it has no drift of its own.
        drift = row["rate"].value if "rate" in row else 0.0
    return tuple(float("nan") if value is None else 100 * value for value in (drift, accuracy))
