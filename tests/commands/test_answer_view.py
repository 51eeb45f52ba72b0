"""Answers on a terminal while they grow: the screen at the end is what one print would show."""

import io
import os
import random
import re
import termios

import pytest

from dart_jax.commands.answer_view import Columns, OneByOne, Written, side_by_side, view_for

TEXTS = {
    "M0": "Both are alike.\n\n" + "A long analysis that goes on and on. " * 12,
    "M_int": "数学 and accents: e\u0301e\u0301\t" + "日本語" * 20 + "\nConclusion: YES",
    "M_DART": "\x1b[2J\x1b]0;title\x07gone\u202e?\r\n" + "short\n" * 15 + "x" * 200,
}


class Terminal(io.StringIO):
    """Standard output at a terminal of a size; `rows` are those on the screen and above it."""

    def __init__(self, columns=100, lines=8):
        super().__init__()
        self._lines = lines
        self._controller, self._terminal = os.openpty()
        termios.tcsetwinsize(self._terminal, (lines, columns))

    def close(self):
        os.close(self._controller)
        os.close(self._terminal)
        super().close()

    def isatty(self):
        return True

    def fileno(self):
        return self._terminal

    @property
    def rows(self):
        """Obey what was written, as a terminal would; what it must not contain is an error."""
        rows, at = [""], 0
        for piece in re.findall(r"\x1b\[\d*[A-Z]|\n|\r|[^\x1b\n\r]+|\x1b", self.getvalue()):
            if piece == "\n":
                at += 1
                rows += [""] * (at == len(rows))
            elif piece == "\x1b[J":
                del rows[at + 1 :]
                rows[at] = ""
            elif piece.endswith("A") and piece.startswith("\x1b["):
                at -= int(piece[2:-1])
                assert at >= max(0, len(rows) - self._lines), "above the screen"
            elif piece != "\r":
                assert piece.isprintable() and not rows[at]
                rows[at] = piece
        return rows


@pytest.fixture
def grown():
    """A function: show texts to a view, a few characters of each at a time."""

    def show(view, texts, seed=0):
        pace = random.Random(seed)
        shown = dict.fromkeys(texts, 0)
        view.show({})
        while any(shown[name] < len(text) for name, text in texts.items()):
            for name in texts:
                shown[name] += pace.choice((0, 3, 9, 40))
            view.show(
                {
                    name: Written(t[: shown[name]], shown[name] >= len(t))
                    for name, t in texts.items()
                }
            )

    return show


@pytest.mark.parametrize("seed", range(5))
def test_columns_that_grow_are_those_of_the_whole_texts(seed, grown):
    """On a screen lower than the texts, of which one runs ahead; nothing is drawn twice."""
    out = Terminal()
    grown(Columns(list(TEXTS), out), TEXTS, seed)
    assert out.rows == [*side_by_side(TEXTS, width=99).splitlines(), ""]


def test_a_resized_terminal_gets_the_table_again(grown):
    out = Terminal()
    view = Columns(list(TEXTS), out)
    view.show({"M0": Written("Both are", False)})
    termios.tcsetwinsize(out.fileno(), (8, 120))
    grown(view, TEXTS)
    whole = [*side_by_side(TEXTS, width=119).splitlines(), ""]
    assert out.rows[-len(whole) :] == whole and len(out.rows) == len(whole) + 3


def test_one_answer_follows_the_other_where_there_is_no_room(grown):
    """On a pipe every character is written once, and in order."""
    out = io.StringIO()
    grown(view_for(list(TEXTS), out), TEXTS)
    whole = io.StringIO()
    view_for(list(TEXTS), whole).show({name: Written(t, True) for name, t in TEXTS.items()})
    assert out.getvalue() == whole.getvalue()
    assert "\x1b" not in out.getvalue() and "\\x1b[2J" in out.getvalue()
    assert out.getvalue().startswith("M0:\nBoth are alike.\n\nA long")


@pytest.mark.parametrize(
    ("columns", "names", "term", "expected"),
    [
        (100, 3, "xterm", Columns),
        (90, 3, "xterm", OneByOne),
        (90, 2, "xterm", Columns),
        (100, 3, "dumb", OneByOne),
        (100, 1, "xterm", OneByOne),
    ],
)
def test_columns_need_room(columns, names, term, expected, monkeypatch):
    monkeypatch.setenv("TERM", term)
    assert type(view_for(list(TEXTS)[:names], Terminal(columns))) is expected


def test_columns():
    shown = side_by_side({"M0": "one two three four five six", "M_DART": "a\n\nb"}, width=43)
    assert shown.splitlines() == [
        "M0                   | M_DART",
        "--                   | ------",
        "one two three four   | a",
        "five six             |",
        "                     | b",
    ]
