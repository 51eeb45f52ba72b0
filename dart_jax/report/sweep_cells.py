"""Turn the rows of a sweep into columns and cells: which metrics are shown, and in which unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.evaluate.sweep_rows import SweepRow
from dart_jax.report.document import Column, Kind

# Shown even where no seed has a value, so that n/a says so.
_ALWAYS_SHOWN = ("accuracy", "drift")

# All other metrics are shares, written in per cent, or made of shares.
_KINDS: dict[str, Kind] = {
    "drift_cases": "pairs",
    "undrifted": "pairs",
    "undrifted_kl": "measure",
    "undrifted_longer": "pairs",
}


def kind_of(metric: str) -> Kind:
    """Tell how a metric, or a difference in it, is written."""
    return _KINDS.get(metric, "interval")


def has_metric(rows: Sequence[SweepRow], metric: str) -> bool:
    """Tell whether some row has a value; the table of an earlier version may lack the metric."""
    return any(metric in row.metrics and row.metrics[metric].n for row in rows)


def shown_titles(rows: Sequence[SweepRow], titles: Mapping[str, str]) -> dict[str, str]:
    """Pick the metrics that some row has a value for, with their titles."""
    return {
        metric: title
        for metric, title in titles.items()
        if metric in _ALWAYS_SHOWN or has_metric(rows, metric)
    }


def metric_columns(titles: Mapping[str, str], first: str = "model") -> tuple[Column, ...]:
    """Make the columns of a table: the row's name, the number of seeds, and the metrics."""
    return (
        Column("name", first),
        Column("seeds", "seeds", "count"),
        *(Column(metric, title, kind_of(metric)) for metric, title in titles.items()),
    )


def metric_cells(
    row: SweepRow, titles: Mapping[str, str], seeds: int | None = None
) -> dict[str, Any]:
    """Fill a row of such a table.

    Args:
        seeds: Number of seeds; by default, of those with an accuracy.
    """
    counted = row.metrics["accuracy"].n if seeds is None else seeds
    estimates = {metric: row.metrics[metric].estimate for metric in titles}
    return {"name": row.name, "seeds": counted, **estimates}
