"""Render a table as CSV (RFC 4180): the numbers themselves, for programs and spreadsheets."""

from __future__ import annotations

import csv
import io
from typing import Any

from dart_jax.report.cells import csv_names, csv_values
from dart_jax.report.document import Table

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(table: Table) -> str:
    """Write header and rows; rates in [0, 1], an interval's bounds in two further columns."""
    header = list(table.tags)
    for column in table.columns:
        header += csv_names(column)

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_guarded(name) for name in header])
    for row in table.rows:
        cells: list[Any] = list(table.tags.values())
        for column in table.columns:
            cells += csv_values(column, row)
        writer.writerow(["" if cell is None else _guarded(cell) for cell in cells])
    return out.getvalue()


def _guarded(cell: Any) -> Any:
    """Put a quote before a text that a spreadsheet would compute, so that it is shown."""
    # Texts only: a negative number begins like a formula, and has to stay a number.
    is_formula = isinstance(cell, str) and cell.startswith(_STARTS_A_FORMULA)
    return f"'{cell}" if is_formula else cell
