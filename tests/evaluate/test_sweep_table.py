"""Means, intervals and paired differences over seeds, on figures known by hand."""

import math
from dataclasses import replace

import pytest

from dart_jax.evaluate.expectations import Expectation, check_expectation
from dart_jax.evaluate.models import METRICS, POSSIBLE
from dart_jax.evaluate.over_seeds import difference_by_seed, over_seeds
from dart_jax.evaluate.summary import FrontierPoint, RepairedSeverity, RunSummary, drift_of
from dart_jax.evaluate.sweep_rows import Result, frontier_rows, frontier_strength
from dart_jax.evaluate.sweep_table import SweepTable, sweep_table
from dart_jax.summaries import Estimate
from tests.evaluate.conftest import COLLATERAL, DRIFT_BY, drift, made_up_summary, metrics
from tests.evaluate.test_planted import made_up_planted


def summary(accuracy: float, confirmed: int, m_int: float = 0.4) -> RunSummary:
    audits = {"M_int": replace(drift(20, 0, 0, 0), pairs=50)}
    audits["M_DART"] = replace(drift(confirmed, 0, 0, 0), pairs=50)
    return made_up_summary(
        judge="none",
        models={
            "M0": metrics(0.3, 50),
            "M_int": metrics(m_int, 50),
            "M_DART": metrics(accuracy, 50),
        },
        drift=drift_of(audits),
        shortcut_baseline=metrics(0.8, 50),
        seconds={"teach": 1.5},
    )


def build(results, variants) -> SweepTable:
    return sweep_table(results, variants, 0.95, name="try", seeds=[0, 1], runs=4)


@pytest.fixture
def results():
    return [
        Result("a", 0, summary(0.5, 10), "x0"),
        Result("a", 1, summary(0.6, 12), "x1"),
        Result("b_2", 0, summary(0.7, 5), "x0"),
        Result("b_2", 1, summary(0.78, 9), "x1"),
    ]


def rows(table):
    return {row.name: row for row in table.rows}


def numbered(*values):
    return {str(seed): value for seed, value in enumerate(values)}


def test_the_interval_is_students():
    """t(0.975, 1) = 12.7062, t(0.975, 2) = 4.30265."""
    found = over_seeds(numbered(0.5, 0.6), 0.95)
    assert (found.n, found.mean) == (2, 0.55)
    half = 12.70620 * math.sqrt(2 * 0.05**2) / math.sqrt(2)
    assert found.high - found.mean == pytest.approx(half, rel=1e-5)
    assert found.mean - found.low == pytest.approx(half, rel=1e-5)
    three = over_seeds(numbered(1.0, 2.0, 3.0), 0.95)
    assert three.high == pytest.approx(2 + 4.30265 / math.sqrt(3), rel=1e-5)
    same = over_seeds(numbered(0.25, 0.25, 0.25), 0.95)
    assert (same.low, same.high) == (0.25, 0.25)


def test_an_interval_ends_at_what_is_possible():
    """The whole one of 0 and 0.4 reaches 2.5 to both sides of 0.2."""
    values = numbered(0.0, 0.4)
    whole = over_seeds(values, 0.95)
    assert whole.low < -1 and whole.high > 1
    cut = over_seeds(values, 0.95, POSSIBLE["accuracy"])
    assert (cut.low, cut.mean, cut.high) == (0.0, 0.2, 1.0)
    reduced = over_seeds(values, 0.95, POSSIBLE["planted_reduction"])
    assert (reduced.low, reduced.high) == (whole.low, 1.0), "drift may grow without end"
    none = over_seeds(numbered(0.0, 0.0), 0.95)
    difference = difference_by_seed(whole, none, 0.95, POSSIBLE["accuracy"])
    assert (difference.low, difference.high) == (-1.0, 1.0)
    assert POSSIBLE.keys() == set(METRICS)


def test_one_value_has_no_interval_and_none_no_mean():
    one = over_seeds(numbered(0.5, None), 0.95)
    assert (one.n, one.mean, one.low, one.high) == (1, 0.5, None, None)
    none = over_seeds({}, 0.95)
    assert (none.n, none.mean, none.low, none.high) == (0, None, None, None)


def test_rows_hold_the_means_of_the_variants_and_what_they_share(results):
    found = rows(build(results, ["a", "b_2"]))
    assert list(found) == ["M0", "distill only", "a", "b_2"]
    assert found["distill only"].metrics["drift"].mean == 0.4
    assert found["a"].metrics["drift"].mean == pytest.approx(0.22)
    assert found["a"].metrics["drift_cases"].mean == 11
    assert found["b_2"].metrics["drift_reduction"].mean == pytest.approx(1 - 14 / 40)
    assert found["M0"].metrics["drift"].mean is None
    assert found["b_2"].metrics["accuracy"].values == {"0": 0.7, "1": 0.78}


def test_differences_are_taken_seed_by_seed(results):
    compared = build(results, ["a", "b_2"]).differences
    assert compared.to == "a"
    [b] = [row.metrics for row in compared.rows if row.name == "b_2"]
    assert list(b["accuracy"].values.values()) == pytest.approx([0.2, 0.18])
    # Far narrower than the intervals of a and b: what seeds have in common falls out.
    assert b["accuracy"].high - b["accuracy"].low < 0.3
    assert list(b["drift"].values.values()) == pytest.approx([-0.1, -0.06])


def test_a_seed_that_only_one_variant_has_is_not_compared(results):
    found = build([results[0], *results[2:]], ["a", "b_2"])
    [b] = [row for row in found.differences.rows if row.name == "b_2"]
    assert b.metrics["accuracy"].n == 1 and b.metrics["accuracy"].low is None
    assert rows(found)["distill only"].metrics["accuracy"].n == 2


def test_a_variant_with_its_own_distillation_has_its_own_row(results):
    results.append(Result("c", 0, summary(0.5, 10, m_int=0.45), "y0"))
    found = rows(build(results, ["a", "b_2", "c"]))
    assert "distill only (a, b_2)" in found and "distill only (c)" in found
    assert "M0" in found


def test_many_variants_of_one_distillation_have_a_name_that_a_legend_can_hold(results):
    results += [Result(f"v{n}", 0, summary(0.5, 10), "x0") for n in range(9)]
    results.append(Result("c", 0, summary(0.5, 10, m_int=0.45), "y0"))
    names = ["a", "b_2", *(f"v{n}" for n in range(9)), "c"]
    found = rows(build(results, names))
    assert found["distill only (a, b_2 and 9 more)"].variants == names[:-1]


def test_a_run_without_a_pair_has_no_drift_rate():
    """Where no test prompt left room for an answer, there is nothing to divide by."""
    nothing = replace(drift(0, 0, 0, 0), pairs=0)
    empty = replace(summary(0.5, 0), drift=drift_of({"M_int": nothing, "M_DART": nothing}))
    table = build([Result("a", 0, empty, "x0")], ["a"])
    assert rows(table)["a"].metrics["drift"].values == {"0": None}


def test_planted_faults_are_shares_of_the_answers_and_weigh_by_severity():
    planted = made_up_planted()
    run = replace(summary(0.5, 10), planted=planted)
    found = rows(build([Result("a", 0, run, "x0")], ["a"]))

    before = found["distill only"].metrics
    assert before["planted"].mean == 8 / 12 and before["planted_minor"].mean == 3 / 12
    assert before["planted_harm"].mean == (3 * 1 + 2 * 3 + 3 * 4) / 12

    after = found["a"].metrics
    assert after["planted_reduction"].mean == planted.reduction.value == 5 / 8
    assert after["left_extreme"].mean == pytest.approx(1 / 3)
    assert after["left_moderate"].n == 0, "there was none to be left"
    assert before["left_extreme"].n == 0 and found["M0"].metrics["planted"].mean == 0


def test_a_row_has_the_mean_weight_of_a_repair_by_severity(results):
    repairs = [{"minor": RepairedSeverity(2, 2.0)}, {"minor": RepairedSeverity(1, 4.0)}]
    changed = []
    for result, repair in zip(results, repairs, strict=False):
        changed.append(replace(result, summary=replace(result.summary, repair=repair)))
    assert rows(build(changed, ["a"]))["a"].weights == {"minor": 2.0}


@pytest.mark.parametrize(
    ("side", "of", "than", "finding"),
    [
        ("below", [0.1, 0.11, 0.12], [0.3, 0.31, 0.33], "as expected"),
        ("above", [0.1, 0.11, 0.12], [0.3, 0.31, 0.33], "the opposite"),
        ("below", [0.1, 0.3, 0.2], [0.2, 0.2, 0.3], "not told from noise"),
        ("below", [0.1], [0.3], "not told from noise"),
        ("below", [None, 0.1], [0.3, None], "not measured"),
    ],
)
def test_an_expectation_is_held_against_the_differences_of_equal_seeds(side, of, than, finding):
    expectation = Expectation("a", "drift", side, "b")
    values = [over_seeds(numbered(*each), 0.95) for each in (of, than)]
    assert check_expectation(expectation, *values, 0.95).finding == finding


def test_expectations_name_variants_or_their_m_int(results):
    expected = [Expectation("b_2", "drift", "below", name) for name in ("a", "M_int")]
    missing = Expectation("not_run", "drift", "below", "a")
    table = sweep_table(
        results,
        ["a", "b_2"],
        0.95,
        name="try",
        seeds=[0, 1],
        runs=6,
        expectations=[*expected, missing],
    )
    to_a, to_m_int, unmeasured = table.expectations
    assert list(to_a.difference.values.values()) == pytest.approx([-0.1, -0.06])
    assert list(to_m_int.difference.values.values()) == pytest.approx([-0.3, -0.22])
    assert unmeasured.finding == "not measured"


def test_a_frontier_has_a_row_for_each_strength(results):
    """Of the 20 pairs on which M_int drifts, half the adapter leaves 5."""
    point = FrontierPoint(
        model="M_int@0.5",
        strength=0.5,
        test=metrics(0.55, 50),
        drift=replace(drift(5, 0, 0, 0), pairs=50),
        rate=Estimate(0.1),
    )
    # The variants share M_int: asked for in one of them, the row is of that one.
    with_point = [
        replace(result, summary=replace(result.summary, frontier=[point]))
        if result.variant == "a"
        else result
        for result in results
    ]
    found = rows(build(with_point, ["a", "b_2"]))
    assert list(found) == ["M0", "distill only", "M_int@0.5", "a", "b_2"]

    half = found["M_int@0.5"]
    assert half.variants == ["a"] and half.metrics["accuracy"].mean == pytest.approx(0.55)
    assert half.metrics["drift"].mean == pytest.approx(0.1)
    assert half.metrics["drift_reduction"].mean == pytest.approx(0.75)

    [zero, part, one, repaired] = frontier_rows(list(found.values()))
    assert [row.name for row in (zero, part, one, repaired)] == [
        *("M0", "M_int@0.5", "distill only", "a")
    ], "b_2 has no frontier"
    strengths = [frontier_strength(row) for row in (zero, part, one, repaired)]
    assert strengths == [0, 0.5, 1, None]

    without = build(results, ["a", "b_2"])
    assert "M_int@0.5" not in rows(without) and frontier_rows(without.rows) == []


def test_other_answers_are_the_repaired_models_and_are_compared_by_seed(results):
    changed = []
    for result, same in zip(results, (0.5, 0.6, 0.75, 0.9), strict=True):
        without = replace(COLLATERAL.not_drifted, same=Estimate(same), kl=Estimate(1 - same))
        found = replace(COLLATERAL, not_drifted=without)
        changed.append(replace(result, summary=replace(result.summary, collateral=found)))
    # Seed 1 of b_2 repaired nothing.
    changed[3] = replace(changed[3], summary=replace(changed[3].summary, collateral=None))
    table = build(changed, ["a", "b_2"])

    a, b = rows(table)["a"].metrics, rows(table)["b_2"].metrics
    assert a["undrifted_same"].mean == pytest.approx(0.55) and a["undrifted"].mean == 30
    assert a["undrifted_kl"].mean == pytest.approx(0.45)
    assert a["undrifted_longer"].mean == 3.0 and a["drifted_same"].mean == 0.1
    assert b["undrifted_same"].values == {"0": 0.75, "1": None}
    for name in ("M0", "distill only"):
        assert rows(table)[name].metrics["undrifted_same"].n == 0

    [difference] = [row.metrics for row in table.differences.rows if row.name == "b_2"]
    assert difference["undrifted_same"].values == {"0": pytest.approx(0.25)}
    assert difference["undrifted_kl"].values == {"0": pytest.approx(-0.25)}


def test_evaluators_stand_where_a_run_has_them_and_are_compared_by_seed(results):
    """The variants share M_int: what one of them alone asked is said of both."""
    audit, judge = DRIFT_BY
    before, after = judge.change.rates["M_int"], judge.change.rates["M_DART"]
    changed = []
    for result, value in zip(results, (0.1, 0.2, 0.4, None), strict=True):
        rates = {"M_int": replace(before, value=0.5), "M_DART": replace(after, value=value)}
        found = replace(judge, change=replace(judge.change, rates=rates), same_as=[])
        drift_by = [audit] if value is None else [audit, found]
        changed.append(replace(result, summary=replace(result.summary, drift_by=drift_by)))
    table = build(changed, ["a", "b_2"])

    found = rows(table)
    assert found["M0"].evaluators == {}
    [shared], [a], [b] = (found[name].evaluators.values() for name in ("distill only", "a", "b_2"))
    assert shared["drift"].values == {"0": 0.5, "1": 0.5} and shared["reduction"].n == 0
    assert a["drift"].values == {"0": 0.1, "1": 0.2} and a["kappa"].mean == 0.78
    assert a["reduction"].mean == 0.8 and b["drift"].values == {"0": 0.4}
    compared = {row.name: row.evaluators["openai a|b"]["drift"] for row in table.differences.rows}
    assert compared["b_2"].values == {"0": pytest.approx(0.3)}
    assert compared["distill only"].values == pytest.approx({"0": 0.4, "1": 0.3})

    assert table.not_independent == {}
    assert build(results, ["a"]).not_independent == {"openai a|b": ["judge.model"]}
    alone = [
        replace(result, summary=replace(result.summary, drift_by=[audit])) for result in results
    ]
    assert not any(row.evaluators for row in build(alone, ["a", "b_2"]).rows)
