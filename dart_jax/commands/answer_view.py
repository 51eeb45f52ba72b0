"""Show the answers of several models on a terminal while they are written.

A model may write any character. Those that a terminal would obey, or that hide or reorder text,
are shown as escapes such as `\\x1b`, see `report.visible`.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, TextIO

from dart_jax.report.visible import visible

# Columns of fewer characters are hard to read: then the answers come one after the other.
_LEAST_COLUMN = 30
_BETWEEN = " | "


@dataclass(frozen=True)
class Written:
    """The text a model has written so far; `done` when nothing more will come."""

    text: str
    done: bool


class View(Protocol):
    """Shows answers as they grow."""

    def show(self, written: Mapping[str, Written]) -> None:
        """Show what each model has written so far; one that is absent has not begun."""


def view_for(names: Sequence[str], out: TextIO) -> View:
    """Columns where the terminal has room for them; else one answer after the other."""
    if len(names) > 1 and out.isatty() and os.environ.get("TERM") != "dumb":
        width = os.get_terminal_size(out.fileno()).columns - 1
        if _column_width(width, len(names)) >= _LEAST_COLUMN:
            return Columns(names, out)
    return OneByOne(names, out)


class OneByOne:
    """The first model's answer as it grows, then what the next one has written meanwhile."""

    def __init__(self, names: Sequence[str], out: TextIO):
        self._names, self._out = list(names), out
        self._shown = 0
        self._head()

    def show(self, written: Mapping[str, Written]) -> None:
        """Write what is new; see `View`."""
        while self._names:
            answer = written.get(self._names[0], Written("", False))
            text = "\n".join(_lines(answer.text))
            self._out.write(text[self._shown :])
            self._shown = max(self._shown, len(text))
            if not answer.done:
                break
            self._out.write("\n\n" if self._names[1:] else "\n")
            del self._names[0]
            self._shown = 0
            self._head()
        self._out.flush()

    def _head(self) -> None:
        if self._names:
            self._out.write(f"{_heading(self._names[0])[0]}:\n")
            self._out.flush()


class Columns:
    """All answers in columns that fill while they are written.

    A row is final once every answer has gone past it: it is written once, and may scroll away. The
    rows behind it are drawn anew each time, as many as the terminal has lines for.
    """

    def __init__(self, names: Sequence[str], out: TextIO):
        self._names, self._out = names, out
        self._size = os.get_terminal_size(out.fileno())
        self._final, self._drawn = 0, 0

    def show(self, written: Mapping[str, Written]) -> None:
        """Draw the rows that are not final; see `View`."""
        size = os.get_terminal_size(self._out.fileno())
        if size != self._size:
            # What is there was broken into rows of another width: begin again below it.
            self._size, self._final, self._drawn = size, 0, 0

        answers = {name: written.get(name, Written("", False)) for name in self._names}
        rows, final = _table(answers, size.columns - 1)
        final = max(final, self._final)
        # One that is drawn again must still be on the screen, with the cursor's line below it.
        growing = rows[final : final + size.lines - 1]
        back = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        new = [f"{row}\n" for row in [*rows[self._final : final], *growing]]
        self._out.write(back + "".join(new))
        self._out.flush()
        self._final, self._drawn = final, len(growing)


def side_by_side(texts: Mapping[str, str], width: int | None = None) -> str:
    """Set texts in columns under their names, `width` characters in all (the terminal's)."""
    width = width or shutil.get_terminal_size((120, 20)).columns
    rows, _ = _table({name: Written(text, True) for name, text in texts.items()}, width)
    return "\n".join(rows)


def _table(answers: Mapping[str, Written], width: int) -> tuple[list[str], int]:
    """The rows of all answers in columns, and how many of them are final."""
    column = max(20, _column_width(width, len(answers)))
    columns, final = [], []
    for name, answer in answers.items():
        cells = [*_heading(name), *_wrapped(answer.text, column)]
        columns.append(cells)
        # Text that is added changes an answer's last row at most.
        if not answer.done:
            # The heading's two rows never change.
            final.append(max(2, len(cells) - 1))

    rows = []
    for cells in zip_longest(*columns, fillvalue=""):
        padded = [cell + " " * (column - _width(cell)) for cell in cells]
        rows.append(_BETWEEN.join(padded).rstrip())
    return rows, min(final, default=len(rows))


def _column_width(width: int, columns: int) -> int:
    return (width - len(_BETWEEN) * (columns - 1)) // columns


def _heading(name: str) -> list[str]:
    name = visible(name)
    return [name, "-" * _width(name)]


def _lines(text: str) -> list[str]:
    """The lines of an answer, with nothing in them that a terminal would obey."""
    return [visible(line.expandtabs(4)) for line in text.strip().splitlines()]


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text into rows of `width` cells at most.

    Text that is added at the end changes the last row at most.
    """
    rows = []
    for line in _lines(text):
        row = ""
        for word in re.findall(r"\s*\S+", line):
            if row and _width(row + word) > width:
                rows.append(row)
                row, word = "", word.lstrip()
            row += word
            while _width(row) > width:
                end = _cut(row, width)
                rows.append(row[:end])
                row = row[end:]
        rows.append(row)
    return rows


def _cut(text: str, width: int) -> int:
    """Number of the first characters that fit into `width` cells, one at least."""
    end = 1
    while _width(text[: end + 1]) <= width:
        end += 1
    return end


def _width(text: str) -> int:
    """Cells of a terminal that a text takes: two for a wide character, none for an accent."""
    if text.isascii():
        return len(text)
    width = 0
    for char in text:
        if unicodedata.category(char) not in ("Mn", "Me"):
            width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width
