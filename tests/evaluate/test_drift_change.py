"""The change of drift, paired by question: by hand, by identities, and where it is not defined."""

import numpy as np
import pytest

from dart_jax.audit.agreement import measure
from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.audit.error_rates import ErrorRates
from dart_jax.audit.screen import Pair
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.corrected_drift import corrected_drift, true_rate
from dart_jax.evaluate.drift_change import (
    Changes,
    DriftRate,
    audited_drift,
    drift_change,
    drift_rate,
)
from dart_jax.records import (
    Condition,
    DriftType,
    JudgeFailure,
    Question,
    Severity,
    Uncertain,
    Verdict,
)

CONFIG = EvaluateConfig(bootstrap_samples=400)
OMITS = (DriftType.OMITS, Severity.MINOR)


def questions(count: int, per_scenario: int = 1) -> list[Question]:
    return [
        Question(f"q{n:03}", "D1", Condition.DIFF, "?", 0, f"s{n // per_scenario}")
        for n in range(count)
    ]


def changed(before, after, per_scenario=1):
    asked = questions(len(before), per_scenario)
    ids = [question.id for question in asked]
    drifted = {
        "M_int": dict(zip(ids, before, strict=True)),
        "M_DART": dict(zip(ids, after, strict=True)),
    }
    return drift_change(asked, drifted, CONFIG, 0)


def test_changes_by_hand():
    """8 repaired, 2 persisting, 1 new: 10 before, 3 after; McNemar of 8 against 1."""
    before = [True] * 10 + [False] * 10
    after = [False] * 8 + [True] * 3 + [False] * 9
    found = changed(before, after)
    assert found.changes == Changes(repaired=8, persisting=2, new=1, undecided=0)
    assert found.reduction.value == pytest.approx(0.7)
    assert found.reduction.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.reduction.low < 0.7 < found.reduction.high <= 1
    assert found.rates["M_int"].value == 0.5
    assert found.rates["M_int"].effective_pairs == pytest.approx(20, rel=0.06)


def test_nothing_left_is_no_certainty():
    found = changed([True] + [False] * 9, [False] * 10)
    assert (found.reduction.value, found.reduction.low) == (1.0, pytest.approx(0.025))
    assert found.reduction.high == 1.0


def test_a_pair_without_a_verdict_is_in_no_change():
    found = changed([True, True, None, False, True], [None, False, True, None, True])
    assert found.changes == Changes(repaired=1, persisting=1, new=0, undecided=3)
    assert found.reduction.value == pytest.approx(1 - 2 / 3), "confirmed before 3, after 2"
    assert (found.rates["M_int"].pairs, found.rates["M_DART"].pairs) == (4, 3)


def test_swapped_models_swap_repaired_and_new():
    before, after = [True, True, True, False, False], [True, False, False, True, False]
    there, back = changed(before, after), changed(after, before)
    assert (there.changes.repaired, there.changes.new) == (back.changes.new, back.changes.repaired)
    assert there.reduction.p == back.reduction.p


def test_the_order_of_questions_does_not_matter():
    before, after = [True, True, False, True, False, True], [True, False, True, False] + [False] * 2
    asked = questions(6, per_scenario=2)
    drifted = {
        name: {q.id: value for q, value in zip(asked, row, strict=True)}
        for name, row in (("M_int", before), ("M_DART", after))
    }
    shuffled = drift_change(asked[::-1], drifted, CONFIG, 0)
    assert shuffled == drift_change(asked, drifted, CONFIG, 0)


def test_nothing_before_is_no_reduction():
    found = changed([False] * 4, [True] + [False] * 3)
    assert (found.reduction.value, found.reduction.low) == (None, None)
    assert found.changes.new == 1 and found.reduction.p == 1.0
    nothing = changed([None, None], [True, False])
    assert nothing.reduction.p is None and nothing.rates["M_int"].value is None


def test_outcomes_become_drift_no_drift_or_no_verdict():
    pairs = [Pair(f"q{n}", None, None, 0.0, 0.1) for n in range(5)]
    outcomes = [
        Verdict("q0", "M_int", True, *OMITS, "", "", "j"),
        Verdict("q1", "M_int", False, None, None, "", "", "j"),
        Uncertain("q2", "M_int", [], "j"),
        JudgeFailure("q3", "M_int", "timeout", 3, "j"),
    ]
    found = audited_drift(pairs, outcomes)
    assert found == {"q0": True, "q1": False, "q2": None, "q3": None, "q4": False}


def test_copies_of_a_scenario_count_once():
    asked = questions(40, per_scenario=4)
    drifted = {question.id: index // 4 < 3 for index, question in enumerate(asked)}
    rate = drift_rate(asked, drifted, CONFIG, 0)
    # Ten scenarios as they are: n of a proportion whose variance has the divisor n - 1.
    assert rate.effective_pairs == pytest.approx(9)
    none = drift_rate(asked, dict.fromkeys(drifted, False), CONFIG, 0)
    assert (none.value, none.low, none.effective_pairs) == (0, 0, 10)
    assert none.high == pytest.approx(1 - 0.025**0.1), "ten scenarios without drift are ten"


def test_the_correction_finds_what_an_audit_with_that_error_would_confirm():
    error = ErrorRates(sensitivity=0.9, specificity=0.8, positives=50, negatives=70)
    observed = 0.3 * 0.9 + 0.7 * 0.2
    found = true_rate(observed, 200, error, 0.95)
    assert found.value == pytest.approx(0.3)
    assert found.low < 0.3 < found.high
    assert true_rate(0.1, 200, error, 0.95).value == 0, "less than its false alarms"


def test_an_audit_that_may_be_no_better_than_chance_corrects_nothing():
    """Two annotated cases of drift: drawn towards a half, they leave no information."""
    error = ErrorRates(sensitivity=0.9, specificity=0.15, positives=2, negatives=1000)
    corrected = true_rate(0.86, 200, error, 0.95)
    assert (corrected.low, corrected.high) == (0, 1)


def test_without_error_it_is_agresti_and_coulls_interval():
    perfect = ErrorRates(1.0, 1.0, positives=1e9, negatives=1e9)
    found = true_rate(0.25, 40, perfect, 0.95)
    z = 1.959964
    n = 40 + z**2
    middle = (10 + z**2 / 2) / n
    reach = z * np.sqrt(middle * (1 - middle) / n)
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.25, middle - reach, middle + reach), abs=1e-6
    )


def annotated(worse, source="sample"):
    """People's answers on two drift pairs of the audit (5 pairs each) and four others (25 each)."""
    key = [KeyedItem(f"i{n}", f"q{n}", "first", "drift", 0.2, "t") for n in range(2)]
    key += [KeyedItem(f"i{n}", f"q{n}", "first", "not_screened", 0.04, "t") for n in range(2, 6)]
    outcomes = {f"q{n}": Verdict(f"q{n}", "M_int", True, *OMITS, "", "", "j") for n in range(2)}
    answers = []
    for number, is_worse in enumerate(worse):
        said = ("first", *OMITS) if is_worse else ("neither", None, None)
        answers.append(Annotation(f"i{number}", "ada", *said))
    found = measure(key, outcomes, answers, resamples=5)
    return type(found)(**{**vars(found), "source": source})


def test_on_the_annotated_pairs_themselves_it_is_what_people_see():
    """The audit confirms 10 of 110 pairs; people see 5 of these and 25 of the others."""
    agreement = annotated([1, 0, 0, 1, 0, 0])
    assert agreement.error.sensitivity == pytest.approx(5 / 30)
    assert agreement.error.specificity == pytest.approx(75 / 80)
    assert agreement.error.positives == pytest.approx(30**2 / (5**2 + 25**2))
    rates = {"M_int": DriftRate(110, 10 / 110, None, None, 110.0)}
    assert corrected_drift(rates, agreement)["M_int"].value == pytest.approx(30 / 110)


@pytest.mark.parametrize(
    ("worse", "source"),
    [
        ([1, 0, 0, 1, 0, 0], "page_open"),
        ([1, 1, 1, 1, 1, 1], "sample"),
        ([0, 0, 0, 0, 0, 0], "sample"),
        ([0, 0, 1, 1, 1, 1], "sample"),
    ],
    ids=["chosen", "all drift", "no drift", "worse than chance"],
)
def test_without_a_measured_error_nothing_is_corrected(worse, source):
    rates = {"M_int": DriftRate(110, 10 / 110, None, None, 110.0)}
    assert corrected_drift(rates, annotated(worse, source)) is None
    assert corrected_drift(rates, None) is None
