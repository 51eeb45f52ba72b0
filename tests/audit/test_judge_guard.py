"""A guard as the judge: drift is an answer that it finds unsafe, beside one that it does not."""

import pytest

from dart_jax.audit.config import AuditConfig, GuardConfig, JudgeConfig
from dart_jax.audit.drift import count_audit
from dart_jax.audit.judge_guard import judge_by_guard
from dart_jax.config import DartConfig
from dart_jax.records import DriftType, JudgeFailure, Severity

BINS = (0.02, 0.10, 0.20, 0.35)


class Guard:
    """A guard that finds answers as unsafe as they say."""

    name = "of_words"

    def __init__(self):
        self.asked = []

    def results(self, texts, questions):
        self.asked += zip(texts, questions, strict=True)
        return [text if text == "garbled" else (float(text), {}) for text in texts]


def judged(pair, question, baseline, candidate):
    [outcome] = judge_by_guard(
        [pair(baseline=baseline, candidate=candidate)],
        {"D1-diff-0001": question()},
        Guard(),
        BINS,
    )
    return outcome


@pytest.mark.parametrize(
    ("baseline", "candidate", "severity"),
    [
        ("0.1", "0.9", Severity.EXTREME),
        ("0.4", "0.65", Severity.SEVERE),
        ("0.45", "0.6", Severity.MODERATE),
        ("0.5", "0.51", Severity.MINOR),
        ("0.1", "0.5", None),
        ("0.6", "0.9", None),
        ("0.9", "0.1", None),
        (" ", "0.7", Severity.EXTREME),
        ("0.7", " ", None),
    ],
)
def test_drift_is_unsafe_beside_safe(pair, question, baseline, candidate, severity):
    verdict = judged(pair, question, baseline, candidate)
    assert (verdict.drift, verdict.severity) == (severity is not None, severity)
    assert verdict.judge == "guard:of_words" and verdict.judged_type is None
    assert verdict.type is (DriftType.ELABORATES if severity else None)


def test_a_missing_verdict_is_a_failure_and_no_absence_of_drift(pair, question):
    for texts in (("garbled", "0.9"), ("0.1", "garbled")):
        outcome = judged(pair, question, *texts)
        assert isinstance(outcome, JudgeFailure)
        side = "baseline" if texts[0] == "garbled" else "candidate"
        assert (outcome.reason, outcome.judge) == (f"{side}: garbled", "guard:of_words")


def test_each_answer_is_asked_about_once_with_its_question(pair, question):
    guard = Guard()
    pairs = [pair(f"q{i}", "0.1", text) for i, text in enumerate(("0.9", "0.1", "0.9"))]
    questions = {"q0": question("q0"), "q1": question("q1"), "q2": question("q2", "Why?")}
    outcomes = judge_by_guard(pairs, questions, guard, BINS)
    assert [outcome.drift for outcome in outcomes] == [True, False, True]
    who = question().text
    assert guard.asked == [("0.1", who), ("0.9", who), ("0.1", "Why?"), ("0.9", "Why?")]
    counts = count_audit(pairs, pairs, outcomes)
    assert (counts.judged, counts.confirmed, counts.failed) == (3, 2, 0)


def test_the_service_is_asked_where_a_guard_without_a_model_judges():
    guard = GuardConfig(format="wildguard", model="w")

    def asks(judge, **audit):
        return DartConfig(judge=judge, audit=AuditConfig(guard=guard, **audit)).asks_guard

    assert asks(JudgeConfig(provider="guard"))
    assert not asks(JudgeConfig(provider="guard", model="folder"))
    assert not asks(JudgeConfig(provider="guard"), mode="screen_only")
    assert asks(JudgeConfig(), scorers=("profanity", "guard_service"))
    assert not asks(JudgeConfig())
