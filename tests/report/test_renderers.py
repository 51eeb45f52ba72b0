"""One table and one document in each of their forms."""

import csv
import html
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dart_jax.report.cells import p_value, shown_rows
from dart_jax.report.document import (
    Browse,
    Bullets,
    Code,
    Column,
    Document,
    Fold,
    Link,
    Listing,
    Section,
    Strong,
    Table,
    Verbatim,
    note,
)
from dart_jax.report.to_csv import to_csv
from dart_jax.report.to_html import to_html
from dart_jax.report.to_latex import tex, to_latex
from dart_jax.report.to_markdown import blocks_to_markdown, escape, preformatted, to_markdown
from dart_jax.report.to_text import to_text
from dart_jax.summaries import Estimate

EVIL = r"50%_of $x$ & \input{a} #1 {b} ~^ <b> | c"
COLUMNS = (
    Column("name", "name"),
    Column("n", "n", "count"),
    Column("accuracy", "accuracy", "interval"),
    Column("yes", "YES", "rate"),
    Column("both", "EQUAL / DIFF", "rates"),
    Column("effect", "effect", "number"),
    Column("p", "p", "p"),
)
ROW = {
    "name": EVIL,
    "n": Browse(1280, {"set": "test", "of": "M_int"}),
    "accuracy": Estimate(1 / 3, 0.25, 0.5),
    "yes": 0.5,
    "both": (0.25, None),
    "effect": -0.25,
    "p": 1e-9,
}
UNDEFINED = {"name": "=1+1", "n": 0, **dict.fromkeys(("accuracy", "yes", "both", "effect", "p"))}
TABLE = Table(
    name="my_table",
    caption="What & how; protocol heldout, split by row",
    columns=COLUMNS,
    rows=[ROW, UNDEFINED, {"name": "nothing"}],
    tags={"run": "r", "protocol": "heldout", "split_by": "row"},
)


def test_people_read_per_cent():
    assert shown_rows(TABLE) == [
        [EVIL, "1,280", "33.3 [25.0, 50.0]", "50.0", "25.0 / n/a", "-0.250", "< 0.001"],
        ["=1+1", "0", *["n/a"] * 5],
        ["nothing", *[""] * 6],
    ]


def test_csv_has_the_numbers_and_comes_back():
    first, second, third = csv.DictReader(io.StringIO(to_csv(TABLE)))
    assert list(first) == [
        *("run", "protocol", "split_by", "name", "n"),
        *("accuracy", "accuracy_low", "accuracy_high", "yes", "both_equal", "both_diff"),
        *("effect", "p"),
    ]
    assert first["name"] == EVIL
    assert (first["protocol"], first["split_by"]) == ("heldout", "row")
    assert (float(first["accuracy"]), float(first["n"])) == (1 / 3, 1280)
    assert (float(first["accuracy_low"]), float(first["p"])) == (0.25, 1e-9)
    assert {second[key] for key in list(first)[5:]} == {""}
    assert {third[key] for key in list(first)[4:]} == {""}
    assert second["name"] == "'=1+1", "no spreadsheet computes it"


def test_latex_is_escaped_and_rectangular():
    text = to_latex(TABLE)
    assert text.count("&") - text.count(r"\&") == 6 * 4, "six separators in each of four lines"
    assert r"\caption{What \& how; protocol heldout, split by row.}" in text
    assert r"\label{tab:my-table}" in text and r"\begin{tabular}{lrrrrrr}" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert r"\textless{} 0.001" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("\\x{y}", r"\textbackslash{}x\{y\}"),
        ("~^%", r"\textasciitilde{}\textasciicircum{}\%"),
        ("a\n b", "a b"),
        ("é", "é"),
    ],
)
def test_tex(plain, escaped):
    assert tex(plain) == escaped


@pytest.mark.parametrize(("p", "shown"), [(0.04999, "0.050"), (0.0009, "< 0.001"), (1.0, "1.000")])
def test_p_values(p, shown):
    assert p_value(p) == shown


def test_markdown_tables_are_rectangular():
    text = blocks_to_markdown([TABLE])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<b>" not in text


def test_html_cells_lead_to_the_browser_and_are_escaped():
    text = to_html([Section("T", (TABLE,), anchor="t")])
    assert '<a href="#browse?set=test&amp;of=M_int">1,280</a>' in text
    assert html.escape(EVIL) in text and "<b>" not in text


def test_terminal_columns_are_aligned():
    _, header, first, second, _ = to_text([TABLE]).splitlines()
    assert first.startswith(EVIL) and second.startswith("=1+1")
    assert len(header) == len(first) == len(second), "the last column is numbers, to the right"


HOSTILE = [
    "</pre></details><script>alert(1)</script>",
    "| a | b |\n|---|---|",
    "# heading\n\n- item\n> quote",
    "![x](http://example.org/x.png) [link](javascript:x) <img src=x>",
    "```\nfence\n```",
    "a\x00b\x1b[31m\u202eevil\ud800",
    "&lt;b&gt; &amp;",
    "_this_ and __that__, a_b",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_cell_has_no_markup(text):
    found = escape(text)
    bare = re.sub(r"\\.", "", found)  # what no backslash guards
    assert not re.search(r"[|<>\[\]`*\n\\!~$]|://", bare)
    assert not re.search("(?<!&)#", bare)
    assert not re.search(r"(?<![^\W_])_|_(?![^\W_])", bare)
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


BLOCKS = (
    note("Plain ", Code("run.py"), ", ", Strong("loud"), ", ", Link("here", "https://a.org"), "."),
    Bullets((note("first"), note("second"))),
    Fold("More", (Verbatim("M0", "it <says>"), Section("Inner", (note("deep"),)))),
    Listing("print(1)"),
)


def test_every_block_has_every_form():
    document = Document("All & sundry", (Section("One", BLOCKS, anchor="one"),))
    markdown = to_markdown(document)
    page = to_html(document.sections)
    text = to_text(document.sections)

    assert markdown.startswith("# All &amp; sundry\n\n## One\n\n")
    assert "Plain <code>run.py</code>, **loud**, [here](https://a.org)." in markdown
    assert "- first\n- second" in markdown and "#### Inner" in markdown
    assert "```python\nprint(1)\n```" in markdown

    assert "<code>run.py</code>, <b>loud</b>, " in page
    assert '<section id="one"><h2>One</h2>' in page and "<h4>Inner</h4>" in page
    assert "<li>first</li><li>second</li>" in page
    assert "<details><summary>More</summary>" in page and "it &lt;says&gt;" in page

    assert "Plain run.py, loud, here." in text and "it <says>" in text
    assert "- second" in text and "    print(1)" in text


def test_two_tables_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="two of the report's blocks are named my_table"):
        Document("d", (Section("a", (TABLE,)), Section("b", (Fold("f", (TABLE,)),))))
