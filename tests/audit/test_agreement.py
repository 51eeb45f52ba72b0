"""Audit against people: every figure here was computed by hand from the weights."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from dart_jax.audit.agreement import (
    StratumCounts,
    _answers,
    _redrawn,
    _shares,
    measure,
)
from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.audit.between_people import BetweenPeople, between_annotators, cohens_kappa
from dart_jax.records import DriftType, JudgeFailure, Severity, Uncertain, Verdict
from dart_jax.summaries import Estimate

ELABORATES, NORMALIZES, OMITS = DriftType
MINOR, MODERATE, SEVERE, EXTREME = Severity


def keyed(number: int, stratum: str, probability: float, candidate: str = "first") -> KeyedItem:
    return KeyedItem(f"i{number}", f"q{number}", candidate, stratum, probability, "t")


def says(number: int, worse="neither", type=None, severity=None, annotator="ada") -> Annotation:
    return Annotation(f"i{number}", annotator, worse, type, severity)


def drift(number: int, type=OMITS, severity=MINOR) -> Verdict:
    return Verdict(f"q{number}", "M_int", True, type, severity, "", "", "j")


def none(number: int) -> Verdict:
    return Verdict(f"q{number}", "M_int", False, None, None, "", "", "j")


def value(metrics, group, name):
    found = getattr(metrics, group)[name]
    return found and found.value


@pytest.fixture
def plain():
    """Two of 10 drift pairs (5 pairs each), four of 100 that were not screened (25 each).

    People confirm one of the two, and find one drift among the four.

                          people: drift   none
        audit: drift             5          5
               none             25         75
    """
    key = [keyed(i, "drift", 0.2) for i in (0, 1)]
    key += [keyed(i, "not_screened", 0.04) for i in (2, 3, 4, 5)]
    outcomes = {"q0": drift(0), "q1": drift(1)}
    annotations = [says(0, "first", OMITS, MINOR), says(1, "second", OMITS, SEVERE)]
    annotations += [says(2), says(3, "first", ELABORATES, MINOR), says(4), says(5)]
    return key, outcomes, annotations


def test_weighted_drift_by_hand(plain):
    found = measure(*plain, resamples=50)
    assert value(found, "drift", "precision") == pytest.approx(5 / 10)
    assert value(found, "drift", "recall") == pytest.approx(5 / 30)
    assert value(found, "drift", "f1") == pytest.approx(2 * 0.5 / 6 / (0.5 + 1 / 6))
    # Observed 80/110, by chance (10 * 30 + 100 * 80) / 110^2.
    assert value(found, "drift", "kappa") == pytest.approx(5 / 38)
    assert found.strata == {
        "drift": StratumCounts(10, 2, 2),
        "not_screened": StratumCounts(100, 4, 4),
    }
    assert found.annotators == {"ada": 6}
    assert found.drift["recall"].low <= 1 / 6 <= found.drift["recall"].high
    assert value(found, "undecided", "share") == 0 and found.undecided["drift"] is None


def test_unanswered_items_pass_their_weight_on(plain):
    """Without i4 and i5, each of the other two stands for 50 pairs."""
    key, outcomes, annotations = plain
    found = measure(key, outcomes, annotations[:4], resamples=20)
    assert value(found, "drift", "recall") == pytest.approx(5 / 55)
    assert found.strata["not_screened"] == StratumCounts(100, 4, 2)


def test_several_answers_on_an_item_share_its_weight(plain):
    """Bob sees drift in i1, so that half of its 5 pairs are drift: 7.5 of 10 precise."""
    key, outcomes, annotations = plain
    bob = says(1, "first", OMITS, MINOR, annotator="bob")
    found = measure(key, outcomes, [*annotations, bob], resamples=20)
    assert value(found, "drift", "precision") == pytest.approx(7.5 / 10)
    assert value(found, "drift", "recall") == pytest.approx(7.5 / 32.5)


def test_failed_and_uncertain_judgements_are_neither_drift_nor_its_absence(plain):
    """One of 4 failures and one of 4 uncertain pairs; the failure is drift to people."""
    key, outcomes, annotations = plain
    key = [*key, keyed(6, "failure", 0.25), keyed(7, "uncertain", 0.25)]
    undecided = {
        "q6": JudgeFailure("q6", "M_int", "timeout", 3, "j"),
        "q7": Uncertain("q7", "M_int", [], "j"),
    }
    annotations = [*annotations, says(6, "first", OMITS, MINOR), says(7)]
    found = measure(key, outcomes | undecided, annotations, resamples=20)
    assert value(found, "drift", "recall") == pytest.approx(5 / 30), "as without them"
    assert value(found, "drift", "recall_undecided_missed") == pytest.approx(5 / 34)
    assert value(found, "undecided", "share") == pytest.approx(8 / 118)
    assert value(found, "undecided", "drift") == pytest.approx(1 / 2)


@pytest.fixture
def typed():
    """Weights 1, 2, 4, 8; the last pair is no drift to people."""
    key = [keyed(i, f"s{i}", 1 / 2**i) for i in range(4)]
    outcomes = {
        "q0": drift(0, ELABORATES, MINOR),
        "q1": drift(1, OMITS, SEVERE),
        "q2": drift(2, OMITS, EXTREME),
        "q3": drift(3, NORMALIZES, MINOR),
    }
    annotations = [
        says(0, "first", ELABORATES, MODERATE),
        says(1, "first", ELABORATES, SEVERE),
        says(2, "first", OMITS, EXTREME),
        says(3),
    ]
    return key, outcomes, annotations


def test_types_by_hand(typed):
    found = measure(*typed, resamples=20)
    shares = {
        name: tuple(value(found, "type", f"{name} {share}") for share in ("precision", "recall"))
        for name in ("elaborates", "normalizes", "omits")
    }
    assert shares == {
        "elaborates": (pytest.approx(1), pytest.approx(1 / 3)),
        "normalizes": (0, None),  # people never say it
        "omits": (pytest.approx(4 / 6), pytest.approx(1)),
    }
    # Where both see drift: agreement 5/7; by chance (1 * 3 + 6 * 4) / 49.
    both = value(found, "type", "kappa_where_both_see_drift")
    assert both == pytest.approx((5 / 7 - 27 / 49) / (1 - 27 / 49))


def test_severity_has_quadratic_weights(typed):
    """Disagreement (1-2)^2 * 1 where both see drift, over what chance gives."""
    found = measure(*typed, resamples=20)
    people, audit = {2: 1, 3: 2, 4: 4}, {1: 1, 3: 2, 4: 4}
    chance = sum((p - a) ** 2 * n * m for p, n in people.items() for a, m in audit.items()) / 7
    both = value(found, "severity", "kappa_where_both_see_drift")
    assert both == pytest.approx(1 - 1 / chance)
    assert value(found, "severity", "severe precision") == pytest.approx(1)
    assert value(found, "severity", "minor precision") == 0


def test_perfect_agreement_and_what_is_not_defined():
    key = [keyed(i, "drift", 1.0) for i in range(3)]
    outcomes = {f"q{i}": drift(i) for i in range(3)}
    found = measure(key, outcomes, [says(i, "first", OMITS, MINOR) for i in range(3)], resamples=20)
    assert found.drift["precision"] == found.drift["recall"]
    assert found.drift["precision"] == Estimate(1.0, 1.0, 1.0)
    assert found.drift["kappa"] is None, "one label only: chance agrees as well"
    assert found.type["elaborates precision"] is None


def test_items_are_drawn_again_within_their_stratum(plain):
    answers = _answers(*plain)
    rng = np.random.RandomState(0)
    drawn = [_redrawn(answers, rng) for _ in range(50)]
    for weights in drawn:
        assert weights[:2].sum() == pytest.approx(10) and weights[2:].sum() == pytest.approx(100)
    assert len({tuple(weights) for weights in drawn}) > 10


@pytest.mark.parametrize("weights", [None, "quadratic"])
def test_kappa_and_shares_are_those_of_sklearn(weights):
    rng = np.random.default_rng(0)
    one, other, weight = rng.integers(0, 4, 50), rng.integers(0, 4, 50), rng.random(50)
    expected = cohen_kappa_score(one, other, labels=range(5), weights=weights, sample_weight=weight)
    assert cohens_kappa(one, other, range(5), weight, weights) == pytest.approx(expected)
    found = _shares(one, other, range(5), weight)
    columns = precision_recall_fscore_support(
        one, other, labels=range(5), sample_weight=weight, zero_division=np.nan
    )
    for name, column in zip(("precision", "recall", "f1"), columns, strict=False):
        assert [row[name] for row in found] == pytest.approx(list(column), nan_ok=True)


def test_the_interval_covers_the_truth():
    """A population of 60 drift (36 true) and 600 others (12 missed); truth: recall 36/48."""
    rng, hits = np.random.default_rng(0), 0
    population = [("drift", i < 36) for i in range(60)] + [
        ("not_screened", i < 12) for i in range(600)
    ]
    for _ in range(20):
        places = [*rng.choice(60, 30, False), *(60 + rng.choice(600, 150, False))]
        key = [keyed(i, population[i][0], 0.5 if i < 60 else 0.25) for i in places]
        outcomes = {f"q{i}": drift(i) for i in places if i < 60}
        people = [says(i, "first", OMITS, MINOR) if population[i][1] else says(i) for i in places]
        recall = measure(key, outcomes, people, resamples=60, confidence=0.9).drift["recall"]
        hits += recall.low <= 36 / 48 <= recall.high
    assert hits >= 16


def test_agreement_between_people():
    """Ada and Bob share four items and differ on one; Eve answers one of Ada's."""
    key = [keyed(i, "drift", 1.0) for i in range(5)]
    ada = [says(i, "first", OMITS, MINOR) for i in (0, 1)] + [says(i) for i in (2, 3, 4)]
    bob = [says(0, "first", OMITS, MINOR, "bob"), *(says(i, annotator="bob") for i in (1, 2, 3))]
    eve = [says(0, "second", OMITS, MINOR, "eve")]
    found = between_annotators(key, [*ada, *bob, *eve])
    assert found.items == 4
    first, with_eve, other = found.pairs
    assert first.annotators == ["ada", "bob"] and first.items == 4
    # Agreement 3/4; by chance (2 * 1 + 2 * 3) / 16.
    assert first.drift == pytest.approx(1 / 2)
    assert with_eve.items == other.items == 1 and with_eve.drift == 0
    # Krippendorff: 9 answers on shared items, 3 of them drift; drift meets none twice each way
    # (2 * 1 / 2 in i0, 1 in i1), by chance 3 * 6 / 8 times.
    assert found.alpha["drift"] == pytest.approx(1 - 2 / (3 * 6 / 8))


def test_one_annotator_has_nobody_to_agree_with(plain):
    found = measure(*plain, resamples=5).between_annotators
    assert found == BetweenPeople(0, {"drift": None, "type": None, "severity": None}, [])


def test_no_annotation_is_an_error(plain):
    with pytest.raises(ValueError, match="no answered item"):
        measure(plain[0], plain[1], [])
