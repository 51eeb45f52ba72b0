"""Tables as spreadsheets write them: CSV whose columns are named in its first row.

Where a comma is the decimal point, spreadsheets separate columns by semicolons; copied cells are
separated by tabs. The first row tells which it is: the separator that finds the columns needed.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dart_jax.strict_json import BadRecord, read_text

SEPARATORS = (",", ";", "\t")
BEYOND = "cells beyond the header"
"""The column under which a row has a cell that stands under no name; '' where all are blank."""

Row = tuple[str, dict[str, str]]


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """Read every row that is not blank, with its place.

    Column names are read in lower case, without the white space around them; cells are as they
    are. A row that ends early lacks the columns after its end; a cell under no name is in the
    column `BEYOND`.

    Args:
        path: UTF-8, with or without a byte order mark.
        needed: Columns that must be there, in lower case.

    Returns:
        `(file:line, cells by column)`; a row of several lines has the number of its first.

    Raises:
        BadRecord: No such columns, a column that comes twice, quotes that do not close, or a file
            that `read_text` refuses; with file and line.
        FileNotFoundError, IsADirectoryError: There is no such file.
    """
    text = read_text(path)
    headers = {separator: _header(text, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda one: len(set(needed).intersection(headers[one])))

    columns = headers[separator]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise BadRecord(
            f"{path}:1: no column {', '.join(missing)}; the first row must name the columns, "
            "separated by commas, semicolons or tabs"
        )
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    if twice:
        raise BadRecord(f"{path}:1: the column {twice[0]} is there twice; delete one")

    _, *rows = _parsed(text, separator, path)
    return [(f"{path}:{line}", _by_column(columns, cells)) for line, cells in rows]


def _header(text: str, separator: str) -> list[str]:
    """The column names; none where the first row is not separated like this."""
    lines = io.StringIO(text.lstrip("\r\n"), newline="")
    try:
        names = next(csv.reader(lines, delimiter=separator, strict=True), [])
    except csv.Error:
        return []
    return [name.strip().lower() for name in names]


def _parsed(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    # The library's limit on a cell, 131,072 characters, holds for every reader of the process.
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    # In strict mode, a quote that does not close is an error and does not swallow the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((begins, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise BadRecord(f"{path}:{begins}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(before)
    return rows


def _by_column(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Cells by column; pandas leaves the first column, of row numbers, without a name."""
    row = {}
    beyond = list(cells[len(columns) :])
    for number, (name, cell) in enumerate(zip(columns, cells, strict=False)):
        if name:
            row[name] = cell
        elif number > 0 and cell.strip():
            beyond.append(cell)

    if beyond:
        row[BEYOND] = next((cell for cell in beyond if cell.strip()), "")
    return row
