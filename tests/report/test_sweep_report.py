"""What a sweep leaves, on figures known by hand."""

import csv
from dataclasses import replace

import pytest

from dart_jax.evaluate.expectations import Expectation
from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.summary import RepairedSeverity, drift_of
from dart_jax.evaluate.sweep_table import Failure, Result, sweep_table
from dart_jax.report.figures import to_png, to_svg
from dart_jax.report.sweep_figures import accuracy_against_drift, dose_response
from dart_jax.report.sweep_report import sweep_text, write_sweep
from tests.evaluate.test_planted import made_up_planted
from tests.evaluate.test_sweep_table import summary
from tests.report.test_planting import PLANTING

HOSTILE = "b^2~c<d|e & _x"


@pytest.fixture
def table():
    results = [
        Result("a", 0, summary(0.5, 10), "x0"),
        Result("a", 1, summary(0.6, 12), "x1"),
        Result(HOSTILE, 0, summary(0.7, 5), "x0"),
        Result(HOSTILE, 1, summary(0.78, 9), "x1"),
    ]
    return sweep_table(
        results,
        ["a", HOSTILE],
        0.95,
        name="try",
        seeds=[0, 1],
        runs=5,
        measured_differently=["audit"],
        failures=[Failure("=1+1", 0, "repair", "E: a|b <i>")],
    )


def test_every_format_says_the_same(table, tmp_path):
    write_sweep(tmp_path, table)
    page = (tmp_path / "table.md").read_text("utf-8")
    latex = (tmp_path / "table.tex").read_text("utf-8")
    text = sweep_text(tmp_path)
    [row] = [
        row
        for row in csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8"))
        if row["name"] == HOSTILE
    ]

    assert float(row["accuracy"]) == pytest.approx(0.74)
    shown = f"{100 * float(row['accuracy']):.1f} [{100 * float(row['accuracy_low']):.1f}, "
    assert shown in text
    assert shown in page.replace("\\[", "[")
    assert shown in latex
    assert r"b\textasciicircum{}2\textasciitilde{}c\textless{}d\textbar{}e \& \_x" in latex
    assert "b^2\\~c&lt;d\\|e &amp; \\_x" in page
    assert HOSTILE in text


def test_the_page_says_what_is_missing_and_what_does_not_compare(table, tmp_path):
    write_sweep(tmp_path, table)
    page = (tmp_path / "table.md").read_text("utf-8")
    assert "4 of 5 runs are done" in page and "Variants differ in audit" in page
    assert r"=1+1, seed 0, repair: E: a\|b &lt;i&gt;" in page
    assert "minus a" in page
    assert "=1+1, seed 0, repair: E: a|b <i>" in sweep_text(tmp_path)


def test_without_results_there_is_a_page_and_a_picture_that_say_so(tmp_path):
    table = sweep_table([], ["a"], 0.95, name="try", seeds=[0], runs=1)
    write_sweep(tmp_path, table)
    assert "0 of 1 runs are done" in (tmp_path / "table.md").read_text("utf-8")
    assert (tmp_path / "accuracy_vs_drift.svg").stat().st_size > 1000


def test_a_sweep_in_which_no_test_prompt_had_room_says_so(tmp_path):
    """There is nothing to divide by, and nothing to draw."""
    full = summary(0.5, 10)
    rates = {name: replace(row, accuracy=None) for name, row in full.models.items()}
    audits = {name: replace(full.drift.of(name), confirmed=0, pairs=0) for name in AUDITED}
    empty = replace(
        full,
        models=rates,
        drift=drift_of(audits),
        shortcut_baseline=replace(full.shortcut_baseline, accuracy=None),
    )
    table = sweep_table([Result("a", 0, empty, "x")], ["a"], 0.95, name="try", seeds=[0], runs=1)
    for row in table.rows:
        assert row.metrics["drift"].mean is None and row.metrics["accuracy"].mean is None
    write_sweep(tmp_path, table)
    assert "n/a" in (tmp_path / "table.md").read_text("utf-8")
    assert "no test question was answered" in (tmp_path / "accuracy_vs_drift.svg").read_text()


@pytest.mark.parametrize("to_bytes", [to_png, to_svg])
def test_the_picture_is_the_same_each_time(to_bytes, table):
    assert to_bytes(accuracy_against_drift(table)) == to_bytes(accuracy_against_drift(table))


def test_planted_faults_and_expectations_have_tables_and_a_picture(tmp_path):
    planted = replace(
        summary(0.5, 10),
        planting=PLANTING,
        planted=made_up_planted(),
        repair={"extreme": RepairedSeverity(2, 8.0)},
    )
    expectation = Expectation("a", "planted_extreme", "below", "M_int")
    table = sweep_table(
        [Result("a", 0, planted, "x0")],
        ["a"],
        0.95,
        name="try",
        seeds=[0],
        runs=1,
        expectations=[expectation],
    )
    write_sweep(tmp_path, table)

    page, text = (tmp_path / "table.md").read_text("utf-8"), sweep_text(tmp_path)
    for words in (page, text):
        assert "planted extreme: a below M_int" in words
        assert "not told from noise" in words and "62.5" in words
    *milder, extreme = dose_response(table).axes
    assert not [line for axes in milder for line in axes.lines]
    [points] = extreme.lines
    assert list(points.get_xdata()) == [4.0]
    assert points.get_ydata() == pytest.approx([100 / 3])
    assert (tmp_path / "dose_response.png").stat().st_size > 1000
