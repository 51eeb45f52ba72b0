"""Planted drift of a small test set, and the audit against it, counted by hand."""

from dataclasses import replace

import pytest

from dart_jax.audit.drift import count_audit
from dart_jax.audit.planted_truth import planted_verdict
from dart_jax.audit.screen import Pair
from dart_jax.evaluate.audit_quality import Audited, audit_quality
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.drift_change import Changes
from dart_jax.evaluate.planted import Planted, planted_summary, planted_truth
from dart_jax.prompts.planted import HARM_PHRASE, planted_sentences
from dart_jax.records import (
    Condition,
    DriftType,
    Generation,
    JudgeFailure,
    Question,
    Severity,
    StopReason,
    Verdict,
)

CONFIG = EvaluateConfig(bootstrap_samples=200)
CLEAN = "Both groups meet the same rule."
SENTENCES = {}
for sentence in planted_sentences():
    if sentence.type is DriftType.ELABORATES:
        SENTENCES.setdefault(sentence.severity.name.lower(), f"{CLEAN} {sentence.text}")

# What twelve answers show; the audit says drift of the upper-case ones, fails on "?".
M_INT = "MINOR MINOR minor SEVERE SEVERE EXTREME EXTREME extreme NONE NONE none none?"
M_DART = "MINOR none none NONE minor none none none NONE none EXTREME none"


def questions(count: int = 12) -> list[Question]:
    return [
        Question(f"q{n:02}", "D1" if n < 6 else "N2", Condition.DIFF, "?", 0, f"s{n // 2}")
        for n in range(count)
    ]


def answer(question: Question, model: str, text: str) -> Generation:
    return Generation(question.id, model, text, None, "no line", StopReason.EOS, 1, 1)


def audited(model: str, shown: str) -> Audited:
    """Answers that show what the words say, and an audit that says what their case does."""
    pairs, outcomes = [], []
    asked = questions()
    for question, word in zip(asked, shown.split(), strict=True):
        text = SENTENCES.get(word.strip("?").lower(), CLEAN)
        baseline = answer(question, "M0", CLEAN)
        pairs.append(Pair(question.id, baseline, answer(question, model, text), 0.0, 0.1))
        if word.endswith("?"):
            outcomes.append(JudgeFailure(question.id, model, "timeout", 3, "j"))
        elif word.isupper():
            kind = (DriftType.ELABORATES, Severity.MINOR)
            outcomes.append(Verdict(question.id, model, True, *kind, "", "", "j"))
    return Audited(asked, pairs, outcomes)


def made_up_planted() -> Planted:
    tested = {"M_int": audited("M_int", M_INT), "M_DART": audited("M_DART", M_DART)}
    return planted_summary(tested, audited("M_int", M_INT), {}, CONFIG, 0)


def test_answers_are_counted_by_what_they_show():
    found = made_up_planted()
    counts = {name: (of_model.n, of_model.drifted) for name, of_model in found.models.items()}
    assert counts == {"M0": (12, 0), "M_int": (12, 8), "M_DART": (12, 3)}
    severities = {"minor": 3, "moderate": 0, "severe": 2, "extreme": 3}
    assert found.models["M_int"].by_severity == severities
    assert found.models["M_int"].by_type == {"elaborates": 8, "normalizes": 0, "omits": 0}
    assert found.pool.drifted == 8 and found.pool.audit == found.audit["M_int"]


def test_the_reduction_is_paired_by_question():
    """M_DART still shows it on q0 and q4, and anew on q10."""
    found = made_up_planted()
    assert found.reduction.value == pytest.approx(1 - 3 / 8)
    assert found.reduction.low <= 1 - 3 / 8 <= found.reduction.high
    assert found.reduction.p == pytest.approx(2 * (1 + 7) / 2**7)
    assert found.changes == Changes(repaired=6, persisting=2, new=1, undecided=0)
    assert found.rates["M_DART"].value == 3 / 12


def test_a_severity_that_becomes_milder_is_repaired_there_and_new_below():
    found = made_up_planted().severities
    assert found["severe"].changes == Changes(repaired=2, persisting=0, new=0, undecided=0)
    assert found["minor"].changes == Changes(repaired=2, persisting=1, new=1, undecided=0)
    assert found["moderate"].reduction.value is None
    assert found["extreme"].reduction.value == pytest.approx(1 - 1 / 3)


def test_the_audit_against_the_truth_by_hand():
    """Of 8 with planted drift it confirms 6, beside 2 of the others; one judgement failed."""
    found = made_up_planted().audit["M_int"]
    assert (found.found, found.missed, found.false, found.undecided) == (6, 2, 2, 1)
    assert (found.precision, found.recall, found.f1) == (6 / 8, 6 / 8, 6 / 8)
    assert found.intervals.recall[0] < 6 / 8 < found.intervals.recall[1]
    by_severity = {name: (row.drifted, row.found) for name, row in found.by_severity.items()}
    assert by_severity == {
        "minor": (3, 2),
        "moderate": (0, 0),
        "severe": (2, 2),
        "extreme": (3, 2),
    }
    assert found.by_severity["moderate"].recall is None


def test_an_audit_without_drift_has_no_precision():
    silent = audited("M_int", "none " * 12)
    found = audit_quality(silent, planted_truth(silent, {}), CONFIG, 0)
    assert (found.precision, found.recall, found.f1) == (None, None, None)
    assert found.intervals.precision is None


def test_omissions_count_where_their_benchmark_planted_them():
    """M0 names the harm on all twelve questions, the model on none."""
    asked, pairs = questions(), []
    for question in asked:
        baseline = answer(question, "M0", f"{HARM_PHRASE} exclusion. {CLEAN}")
        pairs.append(Pair(question.id, baseline, answer(question, "M_int", CLEAN), 0.0, 0.1))
    truth = planted_truth(Audited(asked, pairs, []), {"N2": Severity.SEVERE})
    assert {id for id, drift in truth.items() if drift} == {f"q{n:02}" for n in range(6, 12)}
    assert {drift.type for drift in truth.values() if drift} == {DriftType.OMITS}


def test_what_does_not_add_up_is_refused():
    found = made_up_planted()
    with pytest.raises(ValueError, match=r"planted\.models: M0, not M0, M_int, M_DART"):
        replace(found, models={"M0": found.models["M0"]})
    wrong = replace(found.models["M_int"], drifted=9)
    with pytest.raises(ValueError, match="do not add up"):
        replace(found, models={**found.models, "M_int": wrong})


def test_the_planted_words_decide_every_pair_without_an_error():
    """As `audit.mode: planted` has it; a screen that picked nothing does not matter."""
    pairs = audited("M_int", M_INT).pairs
    verdicts = [planted_verdict(pair, None) for pair in pairs]
    counts = count_audit(pairs, [], verdicts, "planted")
    assert (counts.confirmed, counts.judged, counts.uncertain, counts.failed) == (8, 0, 0, 0)
    assert counts.by_severity == made_up_planted().models["M_int"].by_severity

    quality = audit_quality(
        Audited(questions(), pairs, verdicts),
        planted_truth(audited("M_int", M_INT), {}),
        CONFIG,
        0,
    )
    assert (quality.precision, quality.recall) == (1.0, 1.0)
    with pytest.raises(ValueError, match="never judged"):
        count_audit(pairs, [], verdicts[1:], "planted")
