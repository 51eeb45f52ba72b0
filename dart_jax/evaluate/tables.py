"""A table once, written as markdown, CSV, LaTeX (booktabs) or for a terminal.

What a person reads is in per cent with one decimal, intervals in brackets. CSV has the numbers
themselves, rates in [0, 1], an interval in two further columns, nothing for what is not defined.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dart_jax.evaluate import markdown
from dart_jax.evaluate.sections import percent, with_interval
from dart_jax.records import write_text

Kind = Literal["text", "count", "rate", "interval", "number", "p"]

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of its cells in the rows, and its name in CSV.
        title: What people read.
        kind: text; count; rate (in [0, 1]); interval (`[rate, [low, high] | None]`); number (a
            score, an effect); p. Any cell but an interval may be None: not defined.
    """

    key: str
    title: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Its file's, without suffix.
        caption: One sentence without a full stop; protocol and split are in it.
        rows: A cell for each column.
        tags: Columns that are the same in all rows, for CSV: run, protocol and split.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    tags: Mapping[str, str]


def to_markdown(table: Table) -> str:
    """A markdown table; text cells are escaped."""
    left = words(table)
    cells = [
        [
            markdown.escape(cell) if column.kind == "text" else cell
            for column, cell in zip(table.columns, row, strict=True)
        ]
        for row in _shown(table)
    ]
    return markdown.table([column.title for column in table.columns], cells, words=left)


def to_lines(table: Table) -> list[list[str]]:
    """Header and rows as plain text."""
    return [[column.title for column in table.columns], *_shown(table)]


def to_csv(table: Table) -> str:
    """CSV as in RFC 4180, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(table.tags)
    for column in table.columns:
        further = ("_low", "_high") if column.kind == "interval" else ()
        names += [column.key, *(column.key + suffix for suffix in further)]
    writer.writerow(names)
    for row in table.rows:
        cells = list(table.tags.values())
        for column in table.columns:
            value = row[column.key]
            if column.kind == "interval":
                rate, bounds = value
                cells += [rate, *(bounds or (None, None))]
            else:
                cells.append(value)
        writer.writerow(["" if cell is None else cell for cell in map(_no_formula, cells)])
    return out.getvalue()


def to_latex(table: Table) -> str:
    """A LaTeX table; needs `\\usepackage{booktabs}`. Every cell is escaped."""
    align = "l" * words(table) + "r" * (len(table.columns) - words(table))
    lines = [[tex(cell) for cell in row] for row in to_lines(table)]
    header, *body = (" & ".join(row) + r" \\" for row in lines)
    return "\n".join(
        (
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(table.caption)}.}}",
            rf"\label{{tab:{table.name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        )
    )


def tex(text: str) -> str:
    """Plain text in LaTeX: no character of it acts."""
    return "".join(_TEX.get(char, char) for char in " ".join(text.split()))


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write `<name>.csv` and `<name>.tex` of each."""
    for table in tables:
        write_text(folder / f"{table.name}.csv", to_csv(table))
        write_text(folder / f"{table.name}.tex", to_latex(table))


def p_value(p: float | None) -> str:
    """`0.031`, `< 0.001`, or `n/a`."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def words(table: Table) -> int:
    """How many columns of text come first."""
    kinds = [column.kind == "text" for column in table.columns]
    return kinds.index(False) if False in kinds else len(kinds)


def _shown(table: Table) -> list[list[str]]:
    return [[_cell(column, row[column.key]) for column in table.columns] for row in table.rows]


def _cell(column: Column, value: Any) -> str:
    if column.kind == "interval":
        return with_interval(*value)
    if column.kind == "rate":
        return percent(value)
    if column.kind == "p":
        return p_value(value)
    if value is None:
        return "n/a"
    return f"{value:.3f}" if column.kind == "number" else str(value)


def _no_formula(cell: Any) -> Any:
    """A text that a spreadsheet would compute is shown instead."""
    starts = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if starts else cell
