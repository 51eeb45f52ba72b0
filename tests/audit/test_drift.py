"""Drift cases, their counts, and the walls between drift pool and test questions."""

import pytest

from dart_jax.audit import drift
from dart_jax.audit.config import AuditConfig
from dart_jax.audit.drift import (
    AuditCounts,
    ScreenQuality,
    TooManyFailures,
    check_failures,
    check_held_out,
    count_audit,
    drift_cases,
    reduction,
    screen_verdict,
    severities_below,
    severity_of_delta,
)
from dart_jax.audit.screen import screen
from dart_jax.records import DriftType, JudgeFailure, Severity, Uncertain, Verdict


def confirmed(id: str, type: DriftType = DriftType.OMITS, severity: Severity = Severity.SEVERE):
    return Verdict(id, "M_int", True, type, severity, "words", "why", "j")


def harmless(id: str) -> Verdict:
    return Verdict(id, "M_int", False, None, None, "", "why", "j")


def failed(id: str) -> JudgeFailure:
    return JudgeFailure(id, "M_int", "timeout", 3, "j")


def uncertain(id: str) -> Uncertain:
    return Uncertain(id, "M_int", [], "j")


def test_only_confirmed_pairs_become_cases(pair):
    pairs = [pair("q1"), pair("q2"), pair("q3", "before", "after", (0.25, 0.75)), pair("q4")]
    verdicts = [confirmed("q3"), harmless("q1"), failed("q2"), uncertain("q4")]
    [case] = drift_cases(pairs, verdicts)
    assert (case.question_id, case.candidate, case.delta) == ("q3", "M_int", 0.5)
    assert (case.type, case.severity, case.passage) == (DriftType.OMITS, Severity.SEVERE, "words")
    assert case.baseline_text == pairs[2].baseline.text
    assert case.candidate_text == pairs[2].candidate.text


def test_an_outcome_of_an_unknown_pair_is_an_error(pair):
    with pytest.raises(ValueError, match="outcomes of unknown pairs: M_int q9"):
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
        uncertain("q6"),
    ]
    assert count_audit(pairs, pairs[:7], verdicts) == AuditCounts(
        pairs=8,
        no_room=0,
        screened=7,
        judged=7,
        confirmed=3,
        uncertain=1,
        failed=2,
        by_severity={"minor": 1, "moderate": 0, "severe": 2, "extreme": 0},
        by_type={"elaborates": 1, "normalizes": 0, "omits": 2},
    )


def test_a_screened_pair_without_outcome_is_an_error(pair):
    pairs = [pair("q1"), pair("q2")]
    with pytest.raises(ValueError, match="never judged: M_int q2; judged, not to be judged: none"):
        count_audit(pairs, pairs, [confirmed("q1")])


def test_an_outcome_of_an_unscreened_pair_is_an_error(pair):
    pairs = [pair("q1"), pair("q2")]
    with pytest.raises(ValueError, match="not to be judged: M_int q2"):
        count_audit(pairs, pairs[:1], [harmless("q1"), harmless("q2")])


def test_screened_pairs_are_among_the_pairs(pair):
    with pytest.raises(ValueError, match="not among the pairs"):
        count_audit([pair("q1")], [pair("q2")], [harmless("q2")])


def test_where_all_are_judged_an_unscreened_pair_needs_an_outcome_too(pair):
    pairs = [pair("q1"), pair("q2")]
    with pytest.raises(ValueError, match="never judged: M_int q2"):
        count_audit(pairs, pairs[:1], [confirmed("q1")], "judge_all")


def test_the_screen_is_measured_against_a_judge_that_saw_every_pair(pair):
    """Four confirmed, of which the screen has three; it picked five with a verdict."""
    pairs = [pair(f"q{i}") for i in range(10)]
    outcomes = [
        *(confirmed(f"q{i}") for i in range(3)),
        *(harmless(f"q{i}") for i in (3, 4)),
        failed("q5"),
        uncertain("q6"),
        confirmed("q7"),
        harmless("q8"),
        uncertain("q9"),
    ]
    summary = count_audit(pairs, pairs[:7], outcomes, "judge_all")
    assert (summary.judged, summary.screened, summary.confirmed) == (10, 7, 4)
    assert summary.screen == ScreenQuality(3, 1, 0.75, 0.6)
    nothing = count_audit(pairs[:1], [], [uncertain("q0")], "judge_all")
    assert nothing.screen == ScreenQuality(0, 0, None, None)


BINS = (0.02, 0.10, 0.20, 0.35)


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (-0.5, None),
        (0.0199, None),
        (0.02, Severity.MINOR),
        (0.0999, Severity.MINOR),
        (0.10, Severity.MODERATE),
        (0.20, Severity.SEVERE),
        (0.35, Severity.EXTREME),
        (1.0, Severity.EXTREME),
    ],
)
def test_severity_of_a_delta_is_that_of_the_releases_bins(delta, expected):
    assert severity_of_delta(delta, BINS) is expected


@pytest.mark.parametrize("tau", [-1.0, 0.01, 0.0985, 0.1, 0.12, 0.2, 0.34, 0.35, 0.9])
def test_no_delta_above_tau_has_a_severity_below_it(tau):
    deltas = [step / 1000 for step in range(-1000, 1001)]
    reached = {severity_of_delta(delta, BINS) for delta in deltas if delta > tau}
    assert set(severities_below(tau, BINS)) == set(Severity) - reached


def test_the_scorer_alone_makes_cases_of_one_type(pair):
    scores = [(0.0, 0.015), (0.0, 0.05), (0.25, 0.75), (0.75, 0.25)]
    pairs = [pair(f"q{i}", scores=both) for i, both in enumerate(scores)]
    screened = screen(pairs, 0.01)
    outcomes = [screen_verdict(p, BINS) for p in screened]
    cases = drift_cases(pairs, outcomes)
    assert [(case.question_id, case.severity) for case in cases] == [
        ("q1", Severity.MINOR),
        ("q2", Severity.EXTREME),
    ]
    assert {case.type for case in cases} == {DriftType.ELABORATES}
    summary = count_audit(pairs, screened, outcomes, "screen_only")
    assert (summary.screened, summary.judged, summary.confirmed) == (3, 0, 2)


@pytest.mark.parametrize("bins", [(0.1, 0.1, 0.2, 0.3), (0.4, 0.3, 0.2, 0.1)])
def test_bins_that_do_not_rise_are_refused(bins):
    with pytest.raises(ValueError, match=r"audit\.severity_bins"):
        AuditConfig(severity_bins=bins)


def test_too_many_failures_stop_the_audit_and_say_why():
    outcomes = [failed("q0"), failed("q1"), uncertain("q2"), *(harmless(f"q{i}") for i in range(5))]
    check_failures(outcomes, 0.25)
    check_failures([], 0.0)
    with pytest.raises(
        TooManyFailures, match=r"2 of 8 pairs.*max_failure_share 0\.2.*timeout \(2\)"
    ):
        check_failures(outcomes, 0.2)
    with pytest.raises(TooManyFailures):
        check_failures([failed("q0")], 0.9)


def counts(pairs: int, confirmed: int) -> AuditCounts:
    return AuditCounts(pairs, 0, pairs, pairs, confirmed, 0, 0, {}, {})


@pytest.mark.parametrize(
    ("of_int", "of_dart", "expected"), [(4, 1, 0.75), (4, 0, 1.0), (2, 3, -0.5), (0, 0, None)]
)
def test_reduction(of_int, of_dart, expected):
    found = reduction(counts(9, of_int), counts(9, of_dart))
    assert found == expected


def test_reduction_over_different_pairs_is_an_error():
    with pytest.raises(ValueError, match="9 and of 8 pairs"):
        reduction(counts(9, 1), counts(8, 1))


def test_a_test_question_in_the_pool_is_a_leak(question):
    check_held_out("in the pool", ["a", "b"], [question("c")])
    with pytest.raises(drift.TestLeak, match=r"test questions in the pool: b$"):
        check_held_out("in the pool", ["a", "b"], [question("b"), question("c")])


def test_the_protocol_says_whence_the_pool_comes():
    assert AuditConfig().pool == ("validation", "train")
    assert AuditConfig(protocol="transductive").pool == ("test",)


def test_test_prompts_are_no_pool():
    AuditConfig(pool_splits=("validation", "train"))
    with pytest.raises(ValueError, match=r"audit\.pool_splits contains test.*heldout"):
        AuditConfig(pool_splits=("validation", "test"))


@pytest.mark.parametrize(("splits", "named"), [(("valid",), "'valid'"), ((), "empty")])
def test_unknown_or_no_pool_splits_are_refused(splits, named):
    with pytest.raises(ValueError, match=f"audit.pool_splits is {named}"):
        AuditConfig(pool_splits=splits)
