"""Render a report's blocks as plain text, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from dart_jax.report.cells import shown_rows
from dart_jax.report.document import (
    Block,
    Bullets,
    Figure,
    Fold,
    Listing,
    Note,
    Section,
    Table,
    Verbatim,
)
from dart_jax.report.visible import visible

WIDTH = 100


def to_text(blocks: Sequence[Block]) -> str:
    """Render blocks one below the other. Tables keep their width, sentences wrap at 100 columns.

    A figure has no place in a terminal and is left out; a fold is open.
    """
    parts = [_block(block) for block in blocks]
    return "\n\n".join(part for part in parts if part)


def _block(block: Block) -> str:
    match block:
        case Section():
            return to_text((Note((block.title.upper(),)), *block.blocks))
        case Note():
            return _wrapped(_plain(block))
        case Bullets():
            return "\n".join(_wrapped(_plain(item), "- ") for item in block.items)
        case Table():
            return aligned(block)
        case Fold():
            return to_text((Note((block.title,)), *block.blocks))
        case Verbatim():
            return f"{block.title}\n\n{textwrap.indent(visible(block.text), '    ')}"
        case Listing():
            return textwrap.indent(block.code, "    ")
        case Figure():
            return ""


def aligned(table: Table) -> str:
    """Write the caption, then columns: texts to the left, numbers to the right."""
    header = [column.title for column in table.columns]
    rows = [[visible(" ".join(cell.split())) for cell in row] for row in shown_rows(table)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    lines = [_wrapped(f"{table.caption}.")] if table.caption else []
    for row in [header, *rows]:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            left = place < table.text_columns
            cells.append(cell.ljust(width) if left else cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _plain(note: Note) -> str:
    pieces = []
    for piece in note.pieces:
        pieces.append(piece if isinstance(piece, str) else piece.text)
    return visible(" ".join("".join(pieces).split()))


def _wrapped(text: str, bullet: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
