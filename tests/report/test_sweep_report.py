"""What a sweep leaves, on figures known by hand."""

import csv
import json
from dataclasses import replace

import pytest

from dart_jax.evaluate.expectations import Expectation
from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.summary import FrontierPoint, RepairedSeverity, drift_of
from dart_jax.evaluate.sweep_rows import Result
from dart_jax.evaluate.sweep_table import Failure, sweep_table
from dart_jax.report.cells import shown_rows
from dart_jax.report.document import tables_of
from dart_jax.report.figures import to_png, to_svg
from dart_jax.report.sweep_figures import accuracy_against_drift, dose_response
from dart_jax.report.sweep_report import sweep_document, sweep_text, write_sweep
from dart_jax.summaries import Estimate
from tests.evaluate.conftest import drift, metrics
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


def test_further_figures_have_tables_in_their_own_units(table):
    tables = {each.name: each for each in tables_of(sweep_document(table).sections)}
    a, b = shown_rows(tables["sweep_collateral"])
    assert a[1:4] == ["2", "30.0 [30.0, 30.0]", "90.0 [90.0, 90.0]"]
    assert a[4] == "0.012 [0.012, 0.012]" and b[0] == HOSTILE
    [difference] = shown_rows(tables["sweep_collateral_differences"])
    assert difference[:4] == [HOSTILE, "2", "0.0 [0.0, 0.0]", "0.000 [0.000, 0.000]"]

    shared, of_a, of_b = shown_rows(tables["sweep_evaluators"])
    assert shared[:2] == ["distill only", "openai a|b (not independent)"]
    assert (of_a[5], of_b[5]) == ("", "0.0 [0.0, 0.0]"), "a is what b is compared with"
    assert of_b[-1] == "0.780 [0.780, 0.780]"
    assert "sweep_frontier" not in tables


def test_a_frontier_has_a_table_with_its_strengths(tmp_path):
    half = replace(drift(5, 0, 0, 0), pairs=50)
    point = FrontierPoint("M_int@0.5", 0.5, metrics(0.55, 50), half, Estimate(0.1))
    run = replace(summary(0.5, 10), frontier=[point])
    table = sweep_table([Result("a", 0, run, "x")], ["a"], 0.95, name="try", seeds=[0], runs=1)
    write_sweep(tmp_path, table)
    for text in ((tmp_path / "table.md").read_text("utf-8"), sweep_text(tmp_path)):
        assert "beside M_DART" in text

    tables = {each.name: each for each in tables_of(sweep_document(table).sections)}
    found = [row[:4] for row in shown_rows(tables["sweep_frontier"])]
    assert found == [
        ["M0", "0", "1", "n/a"],
        ["M_int@0.5", "0.5", "1", "10.0"],
        ["distill only", "1", "1", "40.0"],
        ["a", "", "1", "20.0"],
    ]


def test_runs_without_these_figures_and_earlier_tables_have_no_such_table(table, tmp_path):
    write_sweep(tmp_path, table)
    path = tmp_path / "table.json"
    earlier = json.loads(path.read_text("utf-8"))
    del earlier["not_independent"]
    for row in [*earlier["rows"], *earlier["differences"]["rows"]]:
        del row["evaluators"]
        row["metrics"] = {
            name: figures for name, figures in row["metrics"].items() if "drifted" not in name
        }
    path.write_text(json.dumps(earlier), "utf-8")
    assert "beside M_int's" not in sweep_text(tmp_path)

    bare = replace(summary(0.5, 10), collateral=None, drift_by=[])
    found = sweep_table([Result("a", 0, bare, "x")], ["a"], 0.95, name="try", seeds=[0], runs=1)
    names = {each.name for each in tables_of(sweep_document(found).sections)}
    assert names == {"sweep", "sweep_differences"}


def test_an_expectation_of_what_is_no_share_is_in_its_unit():
    results = [Result(name, 0, summary(0.5, 10), "x") for name in ("a", "b")]
    expected = [Expectation("b", metric, "below", "a") for metric in ("undrifted_kl", "drift")]
    table = sweep_table(
        results, ["a", "b"], 0.95, name="try", seeds=[0], runs=2, expectations=expected
    )
    [found] = [
        each
        for each in tables_of(sweep_document(table).sections)
        if each.name == "sweep_expectations"
    ]
    assert [row[2:4] for row in shown_rows(found)] == [["", "0.000"], ["0.0", ""]]
