"""Write the values of tables: once for people, and once for CSV."""

from __future__ import annotations

from typing import Any

from dart_jax.report.document import Browse, Column, Table
from dart_jax.summaries import Estimate

NOT_DEFINED = "n/a"


def shown_rows(table: Table) -> list[list[str]]:
    """Write the cells of a table as people read them, in the order of its columns."""
    return [[shown(column, row) for column in table.columns] for row in table.rows]


def shown(column: Column, row: Any) -> str:
    """Write one cell as people read it; '' where the row has no such cell."""
    if column.key not in row:
        return ""
    value = row[column.key]
    # Only the page has a link; in every other format the cell is its value.
    value = value.value if isinstance(value, Browse) else value
    if value is None:
        return NOT_DEFINED

    match column.kind:
        case "text":
            return str(value)
        case "count":
            return f"{value:,}"
        case "rate":
            return percent(value)
        case "rates":
            return " / ".join(percent(rate) for rate in value)
        case "interval":
            return with_bounds(value, percent)
        case "measure":
            return with_bounds(value, "{:.3f}".format)
        case "pairs":
            return with_bounds(value, "{:.1f}".format)
        case "number":
            return f"{value:.3f}"
        case "mass":
            return f"{value:g}"
        case "p":
            return p_value(value)
        case "seconds":
            return f"{value:,.1f}"
        case "dollars":
            return f"{value:.4f}"


def percent(rate: float | None) -> str:
    """Write 0.39 as `39.0`."""
    return NOT_DEFINED if rate is None else f"{100 * rate:.1f}"


def p_value(p: float) -> str:
    """Write a p-value as `0.031`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def with_bounds(estimate: Estimate, write: Any) -> str:
    """Write a rate as `39.0 [31.2, 46.9]`; without brackets where there is no interval."""
    if estimate.value is None:
        return NOT_DEFINED
    if estimate.low is None or estimate.high is None:
        return write(estimate.value)
    return f"{write(estimate.value)} [{write(estimate.low)}, {write(estimate.high)}]"


def csv_names(column: Column) -> list[str]:
    """Name the column in CSV, where some values take several columns."""
    match column.kind:
        case "interval" | "measure" | "pairs":
            return [column.key, f"{column.key}_low", f"{column.key}_high"]
        case "rates":
            return [f"{column.key}_equal", f"{column.key}_diff"]
        case _:
            return [column.key]


def csv_values(column: Column, row: Any) -> list[Any]:
    """Give the numbers themselves, one for each of `csv_names`; None where none is defined."""
    value = row.get(column.key)
    value = value.value if isinstance(value, Browse) else value
    if value is None:
        return [None] * len(csv_names(column))

    match column.kind:
        case "interval" | "measure" | "pairs":
            return [value.value, value.low, value.high]
        case "rates":
            return list(value)
        case _:
            return [value]
