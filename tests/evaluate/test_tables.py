"""One table in its four forms."""

import csv
import io
import re

import pytest

from dart_jax.evaluate.run_tables import run_tables
from dart_jax.evaluate.tables import (
    Column,
    Table,
    p_value,
    tex,
    to_csv,
    to_latex,
    to_lines,
    to_markdown,
    write_tables,
)

EVIL = r"50%_of $x$ & \input{a} #1 {b} ~^ <b> | c"
TABLE = Table(
    name="my_table",
    caption="What & how; protocol heldout, split by row",
    columns=(
        Column("name", "name"),
        Column("n", "n", "count"),
        Column("accuracy", "accuracy", "interval"),
        Column("yes", "YES", "rate"),
        Column("effect", "effect", "number"),
        Column("p", "p", "p"),
    ),
    rows=[
        {
            "name": EVIL,
            "n": 3,
            "accuracy": (1 / 3, [0.25, 0.5]),
            "yes": 0.5,
            "effect": -0.25,
            "p": 1e-9,
        },
        {
            "name": "=1+1",
            "n": 1,
            "accuracy": (None, None),
            "yes": None,
            "effect": None,
            "p": None,
        },
    ],
    tags={"run": "r", "protocol": "heldout", "split_by": "row"},
)


def test_people_read_per_cent():
    assert to_lines(TABLE) == [
        ["name", "n", "accuracy", "YES", "effect", "p"],
        [EVIL, "3", "33.3 [25.0, 50.0]", "50.0", "-0.250", "< 0.001"],
        ["=1+1", "1", "n/a", "n/a", "n/a", "n/a"],
    ]


def test_csv_has_the_numbers_and_comes_back():
    first, second = csv.DictReader(io.StringIO(to_csv(TABLE)))
    assert list(first) == [
        *("run", "protocol", "split_by", "name", "n"),
        *("accuracy", "accuracy_low", "accuracy_high", "yes", "effect", "p"),
    ]
    assert first["name"] == EVIL
    assert (first["protocol"], first["split_by"]) == ("heldout", "row")
    assert float(first["accuracy"]) == 1 / 3
    assert (float(first["accuracy_low"]), float(first["p"])) == (0.25, 1e-9)
    empty = ("accuracy", "accuracy_low", "accuracy_high", "yes", "effect", "p")
    assert {second[key] for key in empty} == {""}
    assert second["name"] == "'=1+1", "no spreadsheet computes it"


def test_latex_is_escaped_and_rectangular():
    text = to_latex(TABLE)
    assert text.count("&") - text.count(r"\&") == 5 * 3, "five separators in each of three lines"
    assert r"\caption{What \& how; protocol heldout, split by row.}" in text
    assert r"\label{tab:my-table}" in text and r"\begin{tabular}{lrrrrr}" in text
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


def test_markdown_escapes_and_is_rectangular():
    lines = to_markdown(TABLE).splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<b>" not in to_markdown(TABLE)


@pytest.mark.parametrize(
    ("p", "shown"), [(0.04999, "0.050"), (0.0009, "< 0.001"), (1.0, "1.000"), (None, "n/a")]
)
def test_p_values(p, shown):
    assert p_value(p) == shown


def test_tables_of_a_summary_carry_protocol_and_split(summary, tmp_path):
    tables = run_tables(summary, "mine")
    assert [table.name for table in tables] == ["results", "drift"]
    for table in tables:
        assert table.caption.endswith("; protocol heldout, split by row")
        assert table.tags == {"run": "mine", "protocol": "heldout", "split_by": "row"}
    write_tables(tmp_path, tables)
    drift = (tmp_path / "drift.csv").read_text("utf-8").splitlines()
    assert drift[0].endswith("minor,moderate,severe,extreme,elaborates,normalizes,omits,reduction")
    assert drift[-1] == 'mine,heldout,row,"M_DART, test",40,0,20,20,2,2,3,2,0,0,0,2,0,0,0.8'
    results = (tmp_path / "results.tex").read_text("utf-8")
    assert r"M\_DART & 68.8 [58.8, 78.8] & 25.0 [0.0, 50.0] & n/a & 88.6 & 0.0 \\" in results
    assert "shortcut baseline & 90.7" in results
