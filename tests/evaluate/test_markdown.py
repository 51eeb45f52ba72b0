"""Escaping: whatever a model writes shows as text and does nothing else."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dart_jax.evaluate.markdown import escape, preformatted, table

HOSTILE = [
    "</pre></details><script>alert(1)</script>",
    "| a | b |\n|---|---|",
    "# heading\n\n- item\n> quote",
    "![x](http://example.org/x.png) [link](javascript:x) <img src=x>",
    "```\nfence\n```",
    "a\x00b\x1b[31m\u202eevil\ud800",
    "&lt;b&gt; &amp;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_cell_has_no_markup(text):
    found = escape(text)
    bare = re.sub(r"\\.", "", found)  # what no backslash guards
    assert not re.search(r"[|<>\[\]`*_\n\\!~$]|://", bare)
    assert not re.search("(?<!&)#", bare)
    found.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_block_cannot_be_closed(text):
    found = preformatted(text)
    assert found.count("<") == 2 and found.endswith("\n</pre>")
    assert not re.search("[\x00\x1b\u202e]", found)
    found.encode("utf-8")


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=80))
def test_printable_text_is_shown_as_it_is(text):
    assert html.unescape(re.sub(r"\\(.)", r"\1", escape(text))) == text
    assert html.unescape(preformatted(text)) == f"<pre>\n{text}\n</pre>"


def test_long_lines_are_wrapped_and_lose_nothing():
    words = " ".join(f"word{i}" for i in range(60))
    lines = preformatted(words).split("\n")[1:-1]
    assert max(map(len, lines)) <= 96
    assert "".join(lines) == words


def test_table_columns():
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
