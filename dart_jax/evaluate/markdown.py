"""Markdown from data: tables, and text that a model wrote, which must not act on the page."""

import html
import re
import textwrap
from collections.abc import Iterable, Sequence

_MARKS = {ord(mark): f"\\{mark}" for mark in "\\`*_[]#!|~$"}
_DISPLAY_WIDTH = 96  # a <pre> does not wrap by itself


def escape(text: str) -> str:
    """One line of plain text for a paragraph or a table cell: no markup of any kind survives."""
    line = " ".join(visible(text).split())
    escaped = html.escape(line, quote=False).translate(_MARKS)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # bare links link, too


def unescape(cell: str) -> str:
    """What `escape` was given, as one line: the inverse, for a page that escapes for itself."""
    plain = re.sub(r"\\(.)", r"\1", cell).replace("&#58;//", "://").replace("www&#46;", "www.")
    return html.unescape(plain)


def preformatted(text: str) -> str:
    """A `<pre>` block that shows `text` as it is; lines are wrapped for display.

    Inside the block only `<` and `&` mean anything, and both are escaped, so that a generation
    can close neither the block nor what stands around it.
    """
    return f"<pre>\n{html.escape(_wrapped(visible(text)), quote=False)}\n</pre>"


Lines = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows of a table whose cells are markdown already."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table of `words` left-aligned columns, then numbers; the cells are markdown already."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def visible(text: str) -> str:
    """Control, bidi and unpaired surrogate characters as escapes: they could hide or reorder."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in "\n\t "
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _wrapped(text: str) -> str:

    return "\n".join(
        textwrap.fill(
            line, _DISPLAY_WIDTH, drop_whitespace=False, replace_whitespace=False, tabsize=4
        )
        for line in text.split("\n")
    )
