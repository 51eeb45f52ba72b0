"""Read CSV tables as spreadsheets write them, with the column names in the first row.

Where a comma is the decimal point, spreadsheets separate columns by semicolons; copied cells are
separated by tabs. The separator is the one by which the first row has the columns needed.
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
"""Column of a row's cells that stand under no name; '' where all of them are blank."""

Row = tuple[str, dict[str, str]]


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """Read every row that is not blank, with its file and line.

    Column names are put in lower case and stripped of white space; cells are left as they are. A
    row that ends early lacks the columns after its end; a cell under no name is in column `BEYOND`.

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
    separator = max(SEPARATORS, key=lambda mark: len(set(needed).intersection(headers[mark])))

    columns = headers[separator]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise BadRecord(
            f"{path}:1: no column {', '.join(missing)}; the first row must name the columns, "
            "separated by commas, semicolons or tabs"
        )
    # Columns without a name are not read, so that there may be several.
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    if twice:
        raise BadRecord(f"{path}:1: the column {twice[0]} is there twice; delete one")

    _, *rows = _parsed(text, separator, path)
    return [(f"{path}:{line}", _by_column(columns, cells)) for line, cells in rows]


def _header(text: str, separator: str) -> list[str]:
    """The column names in lower case; none where the first row cannot be read with `separator`."""
    # A blank line above the header would be read as a header without columns.
    lines = io.StringIO(text.lstrip("\r\n"), newline="")
    try:
        names = next(csv.reader(lines, delimiter=separator, strict=True), [])
    except csv.Error:
        # With the wrong separator a quote may stand inside a cell: that guess is dropped.
        return []
    return [name.strip().lower() for name in names]


def _parsed(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    # The library's limit on a cell, 131,072 characters, is global to the process: raise it while
    # this table is read.
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    # Strict, since otherwise a quote that does not close swallows the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    begins = 1

    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((begins, cells))
            # A quoted cell may span lines, and `line_num` is that of a row's last.
            begins = reader.line_num + 1
    except csv.Error as error:
        raise BadRecord(f"{path}:{begins}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(before)
    return rows


def _by_column(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A row's cells by column name.

    The first column may lack a name: pandas writes its row numbers so, and they are left out.
    """
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
