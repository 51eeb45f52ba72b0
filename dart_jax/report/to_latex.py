r"""LaTeX of a table; the document that includes it needs `\usepackage{booktabs}`."""

from __future__ import annotations

from dart_jax.report.cells import shown_rows
from dart_jax.report.document import Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


def to_latex(table: Table) -> str:
    """Render a `table` environment with caption, label and rules; every text is escaped."""
    header = [column.title for column in table.columns]
    lines = []
    for row in [header, *shown_rows(table)]:
        lines.append(" & ".join(tex(cell) for cell in row) + r" \\")

    numbers = len(table.columns) - table.text_columns
    return "\n".join(
        (
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(table.caption)}.}}",
            rf"\label{{tab:{table.name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{'l' * table.text_columns + 'r' * numbers}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        )
    )


def tex(text: str) -> str:
    """Escape plain text for LaTeX, on one line: no character of it acts."""
    # Character by character: the braces that a replacement brings are not replaced again.
    line = " ".join(text.split())
    return "".join(_ESCAPES.get(char, char) for char in line)
