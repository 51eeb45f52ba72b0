"""Drift cases, their counts, and the walls between drift pool and test questions."""

import pytest

from dart_jax.audit import drift
from dart_jax.audit.drift import (
    check_pool,
    check_pool_splits,
    drift_cases,
    reduction,
    summarise_drift,
)
from dart_jax.records import DriftType, JudgeFailure, Severity, Verdict


def confirmed(id: str, type: DriftType = DriftType.OMITS, severity: Severity = Severity.SEVERE):
    return Verdict(id, "M_int", True, type, severity, "words", "why", "j")


def harmless(id: str) -> Verdict:
    return Verdict(id, "M_int", False, None, None, "", "why", "j")


def failed(id: str) -> JudgeFailure:
    return JudgeFailure(id, "M_int", "timeout", 3, "j")


def test_only_confirmed_pairs_become_cases(pair):
    pairs = [pair("q1"), pair("q2"), pair("q3", "before", "after", (0.25, 0.75)), pair("q4")]
    verdicts = [confirmed("q3"), harmless("q1"), failed("q2")]
    [case] = drift_cases(pairs, verdicts)
    assert (case.question_id, case.candidate, case.delta) == ("q3", "M_int", 0.5)
    assert (case.type, case.severity, case.passage) == (DriftType.OMITS, Severity.SEVERE, "words")
    assert case.baseline_text == pairs[2].baseline.text
    assert case.candidate_text == pairs[2].candidate.text


def test_a_verdict_on_an_unknown_pair_is_an_error(pair):
    with pytest.raises(ValueError, match="unknown pairs: M_int q9"):
        drift_cases([pair("q1")], [confirmed("q9")])


def test_a_pair_judged_twice_is_an_error(pair):
    with pytest.raises(ValueError, match="judged twice: M_int q1"):
        drift_cases([pair("q1")], [confirmed("q1"), harmless("q1")])


def test_summary_counts_every_outcome_apart(pair):
    pairs = [pair(f"q{i}") for i in range(8)]
    verdicts = [
        confirmed("q0"),
        confirmed("q1", DriftType.ELABORATES, Severity.MINOR),
        confirmed("q2"),
        harmless("q3"),
        failed("q4"),
        failed("q5"),
    ]
    assert summarise_drift(pairs, pairs[:6], verdicts) == {
        "pairs": 8,
        "screened": 6,
        "confirmed": 3,
        "failed": 2,
        "by_severity": {"minor": 1, "moderate": 0, "severe": 2, "extreme": 0},
        "by_type": {"elaborates": 1, "normalizes": 0, "omits": 2},
    }


def test_a_screened_pair_without_outcome_is_an_error(pair):
    pairs = [pair("q1"), pair("q2")]
    with pytest.raises(ValueError, match="never judged: M_int q2; judged, never screened: none"):
        summarise_drift(pairs, pairs, [confirmed("q1")])


def test_an_outcome_of_an_unscreened_pair_is_an_error(pair):
    pairs = [pair("q1"), pair("q2")]
    with pytest.raises(ValueError, match="never screened: M_int q2"):
        summarise_drift(pairs, pairs[:1], [harmless("q1"), harmless("q2")])


def test_screened_pairs_are_among_the_pairs(pair):
    with pytest.raises(ValueError, match="not among the pairs"):
        summarise_drift([pair("q1")], [pair("q2")], [harmless("q2")])


@pytest.mark.parametrize(
    ("of_int", "of_dart", "expected"), [(4, 1, 0.75), (4, 0, 1.0), (2, 3, -0.5), (0, 0, None)]
)
def test_reduction(of_int, of_dart, expected):
    found = reduction({"pairs": 9, "confirmed": of_int}, {"pairs": 9, "confirmed": of_dart})
    assert found == expected


def test_reduction_over_different_pairs_is_an_error():
    with pytest.raises(ValueError, match="9 and of 8 pairs"):
        reduction({"pairs": 9, "confirmed": 1}, {"pairs": 8, "confirmed": 1})


def test_a_test_question_in_the_pool_is_a_leak(question):
    check_pool([question("a"), question("b")], [question("c")])
    with pytest.raises(drift.TestLeak, match=r"heldout.*: b$"):
        check_pool([question("a"), question("b")], [question("b"), question("c")])


def test_test_prompts_are_no_pool():
    check_pool_splits(("validation", "train"))
    with pytest.raises(ValueError, match=r"audit\.pool_splits contains test.*heldout"):
        check_pool_splits(("validation", "test"))


@pytest.mark.parametrize(("splits", "named"), [(("valid",), "'valid'"), ((), "empty")])
def test_unknown_or_no_pool_splits_are_refused(splits, named):
    with pytest.raises(ValueError, match=f"audit.pool_splits is {named}"):
        check_pool_splits(splits)
