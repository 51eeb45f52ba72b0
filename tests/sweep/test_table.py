"""Means, intervals and paired differences over seeds, on figures known by hand."""

import math

import pytest

from dart_jax.evaluate.metrics import RATES
from dart_jax.evaluate.plots import accuracy_against_drift
from dart_jax.sweep.report import cell, latex, markdown
from dart_jax.sweep.table import Result, build_table, interval


def summary(accuracy, confirmed, m_int=0.4):
    models = {"M0": 0.3, "M_int": m_int, "M_DART": accuracy}
    return {
        "protocol": "heldout",
        "split_by": "row",
        "judge": "none",
        "models": {name: {**dict.fromkeys(RATES, v), "n": 50} for name, v in models.items()},
        "drift": {
            "M_int": {"confirmed": 20, "pairs": 50},
            "M_DART": {"confirmed": confirmed, "pairs": 50},
            "reduction": 1 - confirmed / 20,
        },
        "shortcut_baseline": {"accuracy": 0.8},
        "seconds": {"teach": 1.5},
    }


@pytest.fixture
def results():
    return [
        Result("a", 0, summary(0.5, 10), "x0"),
        Result("a", 1, summary(0.6, 12), "x1"),
        Result("b_2", 0, summary(0.7, 5), "x0"),
        Result("b_2", 1, summary(0.78, 9), "x1"),
    ]


def rows(table):
    return {row["name"]: row for row in table["rows"]}


def test_the_interval_is_students(results):
    """t(0.975, 1) = 12.7062, t(0.975, 2) = 4.30265."""
    found = interval([0.5, 0.6], 0.95)
    assert (found["n"], found["mean"]) == (2, 0.55)
    half = 12.70620 * math.sqrt(2 * 0.05**2) / math.sqrt(2)
    assert found["high"] - found["mean"] == pytest.approx(half, rel=1e-5)
    assert found["mean"] - found["low"] == pytest.approx(half, rel=1e-5)
    three = interval([1.0, 2.0, 3.0], 0.95)
    assert three["high"] == pytest.approx(2 + 4.30265 / math.sqrt(3), rel=1e-5)
    same = interval([0.25, 0.25, 0.25], 0.95)
    assert (same["low"], same["high"]) == (0.25, 0.25)


def test_one_value_has_no_interval_and_none_no_mean():
    assert interval([0.5], 0.95) == {"n": 1, "mean": 0.5, "low": None, "high": None}
    assert interval([], 0.95) == {"n": 0, "mean": None, "low": None, "high": None}
    assert cell(interval([0.5], 0.95)) == "50.0"
    assert cell(interval([], 0.95)) == "n/a"
    assert cell(interval([0.25, 0.25], 0.95), plus=True) == "+25.0 ± 0.0"


def test_rows_hold_the_means_of_the_variants_and_what_they_share(results):
    found = rows(build_table(results, ["a", "b_2"], 0.95))
    assert list(found) == ["M0", "distill only", "a", "b_2"]
    assert found["distill only"]["metrics"]["drift"]["mean"] == 0.4
    assert found["a"]["metrics"]["drift"]["mean"] == pytest.approx(0.22)
    assert found["a"]["metrics"]["drift_cases"]["mean"] == 11
    assert found["b_2"]["metrics"]["drift_reduction"]["mean"] == pytest.approx(1 - 14 / 40)
    assert found["M0"]["metrics"]["drift"]["mean"] is None
    assert found["b_2"]["metrics"]["accuracy"]["values"] == {"0": 0.7, "1": 0.78}


def test_differences_are_taken_seed_by_seed(results):
    compared = build_table(results, ["a", "b_2"], 0.95)["differences"]
    assert compared["to"] == "a"
    [b] = [row["metrics"] for row in compared["rows"] if row["name"] == "b_2"]
    assert list(b["accuracy"]["values"].values()) == pytest.approx([0.2, 0.18])
    # Far narrower than the intervals of a and b: what seeds have in common falls out.
    assert b["accuracy"]["high"] - b["accuracy"]["low"] < 0.3
    assert list(b["drift"]["values"].values()) == pytest.approx([-0.1, -0.06])


def test_a_seed_that_only_one_variant_has_is_not_compared(results):
    found = build_table([results[0], *results[2:]], ["a", "b_2"], 0.95)
    [b] = [row for row in found["differences"]["rows"] if row["name"] == "b_2"]
    assert b["metrics"]["accuracy"]["n"] == 1 and b["metrics"]["accuracy"]["low"] is None
    assert rows(found)["distill only"]["metrics"]["accuracy"]["n"] == 2


def test_a_variant_with_its_own_distillation_has_its_own_row(results):
    results.append(Result("c", 0, summary(0.5, 10, m_int=0.45), "y0"))
    found = rows(build_table(results, ["a", "b_2", "c"], 0.95))
    assert "distill only (a, b_2)" in found and "distill only (c)" in found
    assert "M0" in found


def test_many_variants_of_one_distillation_have_a_name_that_a_legend_can_hold(results):
    results += [Result(f"v{n}", 0, summary(0.5, 10), "x0") for n in range(9)]
    results.append(Result("c", 0, summary(0.5, 10, m_int=0.45), "y0"))
    names = ["a", "b_2", *(f"v{n}" for n in range(9)), "c"]
    found = rows(build_table(results, names, 0.95))
    assert found["distill only (a, b_2 and 9 more)"]["variants"] == names[:-1]


def test_pages_escape_names_and_say_what_failed(results):
    found = {
        "name": "try",
        "runs": 5,
        "done": 4,
        "measured_differently": ["audit"],
        "failures": [{"variant": "c", "seed": 0, "stage": "repair", "error": "E: a|b <i>"}],
        **build_table(results, ["a", "b_2"], 0.95),
    }
    page = markdown(found)
    assert "4 of 5 runs are done" in page and "Variants differ in audit" in page
    assert r"c, seed 0, repair: E: a\|b &lt;i&gt;" in page
    assert "minus a" in page and r"b\_2" in page
    assert r"b\_2 & $2$" in latex(found) and r"\pm" in latex(found)


def test_without_results_there_is_a_page_and_a_plot_that_say_so(tmp_path):
    table = build_table([], ["a"], 0.95)
    found = {
        "name": "try",
        "runs": 1,
        "done": 0,
        "measured_differently": [],
        "failures": [],
        **table,
    }
    assert "0 of 1 runs are done" in markdown(found)
    assert accuracy_against_drift(table, tmp_path / "p.svg").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_plot_is_the_same_each_time(kind, results, tmp_path):
    table = build_table(results, ["a", "b_2"], 0.95)
    first, second = (
        accuracy_against_drift(table, tmp_path / f"{name}.{kind}").read_bytes() for name in "xy"
    )
    assert first == second


def test_a_run_without_a_pair_has_no_drift_rate():
    """Where no test prompt left room for an answer, there is nothing to divide by."""
    empty = summary(0.5, 0)
    empty["drift"] |= {name: {"confirmed": 0, "pairs": 0} for name in ("M_int", "M_DART")}
    table = build_table([Result("a", 0, empty, "x0")], ["a"], 0.95)
    assert rows(table)["a"]["metrics"]["drift"]["values"] == {"0": None}
