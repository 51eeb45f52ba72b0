"""Render a report as Markdown: `report.md`, and the sections of a model card."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence

from dart_jax.report.cells import shown_rows
from dart_jax.report.document import (
    Block,
    Bullets,
    Code,
    Document,
    Figure,
    Fold,
    Inline,
    Link,
    Listing,
    Note,
    Section,
    Strong,
    Table,
    Verbatim,
)
from dart_jax.report.visible import visible

_MARKS = {ord(mark): f"\\{mark}" for mark in "\\`*[]#!|~$"}
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # an underscore inside a word is only itself
_DISPLAY_WIDTH = 96  # a <pre> does not wrap by itself


def to_markdown(document: Document) -> str:
    """Render the whole document. Figures are linked as `<name>.png` beside it."""
    parts = [f"# {escape(document.title)}", blocks_to_markdown(document.sections)]
    return "\n\n".join(parts) + "\n"


def blocks_to_markdown(blocks: Sequence[Block], level: int = 2) -> str:
    """Render blocks one below the other.

    Args:
        level: Of the headings: 2 for the sections of a document.
    """
    parts = [_block(block, level) for block in blocks]
    return "\n\n".join(part for part in parts if part)


def _block(block: Block, level: int) -> str:
    match block:
        case Section():
            heading = f"{'#' * level} {escape(block.title)}"
            return f"{heading}\n\n{blocks_to_markdown(block.blocks, level + 1)}".rstrip()
        case Note():
            return _paragraph(block)
        case Bullets():
            return "\n".join(f"- {_paragraph(item)}" for item in block.items)
        case Table():
            return _table(block)
        case Figure():
            caption = escape(block.caption)
            return f"![{caption}]({block.name}.png)\n\n*{caption}.*"
        case Fold():
            inside = blocks_to_markdown(block.blocks, level + 1)
            summary = f"<summary>{html.escape(visible(block.title), quote=False)}</summary>"
            return f"<details>\n{summary}\n\n{inside}\n\n</details>"
        case Verbatim():
            return f"{escape(block.title)}\n\n{preformatted(block.text)}"
        case Listing():
            return f"```{block.language}\n{block.code}\n```"


def _paragraph(note: Note) -> str:
    text = "".join(_inline(piece) for piece in note.pieces)
    return f"> {text}" if note.style == "notice" else text


def _inline(piece: Inline) -> str:
    match piece:
        case Code():
            # Not backticks: between them nothing can be escaped.
            return f"<code>{_escaped(piece.text)}</code>"
        case Strong():
            return f"**{escape(piece.text)}**"
        case Link():
            return f"[{escape(piece.text)}]({piece.address})"
        case _:
            return _escaped(piece)


def _table(table: Table) -> str:
    header = [escape(column.title) for column in table.columns]
    numbers = len(header) - table.text_columns
    rule = ["---"] * table.text_columns + ["---:"] * numbers

    lines = [f"{escape(table.caption)}.", ""] if table.caption else []
    for row in [header, rule]:
        lines.append("| " + " | ".join(row) + " |")
    for row in shown_rows(table):
        cells = []
        for column, cell in zip(table.columns, row, strict=True):
            # Numbers are written by `report.cells` alone, and the brackets of intervals need no
            # escape.
            cells.append(escape(cell) if column.kind == "text" else cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Escape one line of plain text: no markup of any kind survives."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    """Escape a piece as `escape` does, and keep the blanks at its ends."""
    line = visible(text).replace("\n", " ")
    escaped = _EMPHASIS.sub(r"\\_", html.escape(line, quote=False).translate(_MARKS))
    # Last, or the marks of these entities would be escaped in their turn.
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # bare links link, too


def preformatted(text: str) -> str:
    """Write a `<pre>` block that shows a text as it is; lines are wrapped for display.

    Inside the block only `<` and `&` mean anything, and both are escaped, so that a generation
    can close neither the block nor what stands around it. A blank line would end an HTML block
    of markdown, but not one that begins with `<pre>`.
    """
    wrapped = []
    for line in visible(text).split("\n"):
        wrapped.append(
            textwrap.fill(
                line, _DISPLAY_WIDTH, drop_whitespace=False, replace_whitespace=False, tabsize=4
            )
        )
    # `chr(10)`, since Python 3.11 takes no backslash within the braces.
    return f"<pre>\n{html.escape(chr(10).join(wrapped), quote=False)}\n</pre>"
