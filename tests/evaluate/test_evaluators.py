"""Drift by several evaluators: agreement with the audit, and what incoherent answers do to it."""

import math

import numpy as np
import pytest

from dart_jax.audit.between_people import cohens_kappa
from dart_jax.audit.config import AuditConfig
from dart_jax.audit.screen import Pair
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.evaluators import (
    Evaluator,
    Undecided,
    check_judged,
    drift_by,
    drift_of_outcomes,
    drift_of_scores,
    further_scorers,
    kappas,
    with_audit,
)
from dart_jax.records import Generation, JudgeFailure, Score, StopReason, Uncertain
from dart_jax.summaries import Estimate
from tests.evaluate.test_drift_change import questions

CONFIG = EvaluateConfig(bootstrap_samples=400)
NONE = {name: Undecided(0, 0) for name in ("M_int", "M_DART")}


def said(values):
    return {f"q{n:03}": value for n, value in enumerate(values)}


def agreement(evaluator, audit, per_scenario=1):
    asked = questions(len(audit), per_scenario)
    return with_audit(asked, said(evaluator), said(audit), CONFIG, 0)


def test_kappa_is_sklearns():
    rng = np.random.default_rng(0)
    audit = rng.random(60) < 0.4
    evaluator = audit ^ (rng.random(60) < 0.2)
    found = agreement(evaluator.tolist(), audit.tolist())
    expected = cohens_kappa(audit, evaluator, [False, True], np.ones(60))
    assert found.kappa.value == pytest.approx(expected)
    assert found.kappa.low < expected < found.kappa.high <= 1
    assert found.pairs == 60 and found.both == (audit & evaluator).sum()
    assert found.audit_only + found.evaluator_only == (audit ^ evaluator).sum()


def test_kappa_by_hand_and_where_it_is_not_defined():
    # Of ten pairs four and four agreed: 0.8 observed, 0.5 by chance.
    table = np.array([[4, 5, 0], [1, 0, 0], [1, 0, 0], [4, 0, 0]], float)
    found = kappas(table)
    assert found[0] == pytest.approx(0.6) and np.isnan(found[1:]).all()
    assert agreement([True] * 5, [True] * 5).kappa == Estimate(None)
    assert agreement([], []).kappa == Estimate(None)


def test_perfect_agreement_is_no_certainty():
    found = agreement([True, False] * 15, [True, False] * 15)
    assert (found.kappa.value, found.kappa.high) == (1.0, 1.0)
    # Of 30 scenarios none disagrees: at most 11.6 % do, of which half are agreed by chance.
    assert found.kappa.low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 30)))
    alone = agreement([True, False], [True, False], per_scenario=2)
    assert alone.kappa == Estimate(1.0), "a single scenario leaves nothing to resample"


def test_undecided_pairs_are_in_no_agreement():
    found = agreement([True, None, False, True], [True, True, None, False])
    assert (found.pairs, found.both, found.audit_only, found.evaluator_only) == (2, 1, 0, 1)


def pair(id, before=0.0, after=0.0):
    sides = [
        Generation(id, model, "a", None, "none", StopReason.EOS, 1, 1) for model in ("M0", "M_int")
    ]
    return Pair(id, *sides, before, after)


def test_a_scorer_says_drift_from_the_first_bin_on():
    pairs = [pair(f"q{n}") for n in range(3)]
    values = {"M0": (0.1, 0.1, 0.5), "M_int": (0.1, 0.15, 0.4)}
    scores = []
    for model, of_model in values.items():
        scores += [Score(f"q{n}", model, "s", value) for n, value in enumerate(of_model)]
    found = drift_of_scores(pairs, scores, (0.04, 0.1, 0.2, 0.3))
    assert found == {"q0": False, "q1": True, "q2": False}


def test_a_pair_that_was_not_judged_is_an_error_and_undecided_ones_are_counted():
    pairs = [pair("q0"), pair("q1")]
    outcomes = [
        Uncertain("q0", "M_int", (), "j"),
        JudgeFailure("q1", "M_int", "no answer", 3, "j"),
    ]
    check_judged(pairs, outcomes)
    with pytest.raises(ValueError, match=r"never judged by evaluate\.judge: q1"):
        check_judged(pairs, outcomes[:1])
    by_model = {"M_int": pairs, "M_DART": []}
    drifted, undecided = drift_of_outcomes(by_model, {"M_int": outcomes, "M_DART": []})
    assert drifted["M_int"] == {"q0": None, "q1": None}
    assert undecided == {"M_int": Undecided(1, 1), "M_DART": Undecided(0, 0)}


def test_drift_without_incoherent_answers_stands_beside_all_of_it():
    """All of the repair's success is on two answers that say nothing."""
    before, after = [True, True, True, False], [False, False, True, False]
    drifted = {"M_int": said(before), "M_DART": said(after)}
    audit = Evaluator("audit", "audit", [], drifted, NONE)
    other = Evaluator("openai x", "judge", ["judge.model"], drifted, NONE)
    coherent = {name: {"q002", "q003"} for name in drifted}
    first, second = [
        drift_by(evaluator, audit, coherent, questions(4), CONFIG, 0)
        for evaluator in (audit, other)
    ]
    assert first.change.reduction.value == pytest.approx(2 / 3)
    assert first.coherent.reduction.value == 0
    assert first.coherent.rates["M_int"].pairs == 2
    assert first.agreement == {} and second.agreement["M_int"].kappa.value == 1
    assert (second.by, second.same_as, second.change) == ("openai x", ["judge.model"], first.change)
    assert not math.isnan(second.agreement["M_DART"].kappa.low)


def test_a_scorer_that_is_none_names_its_setting():
    assert further_scorers(None) == ()
    with pytest.raises(ValueError, match=r"^evaluate\.scorers: 'perspective' is none of"):
        further_scorers(AuditConfig(scorers=("perspective",)))


def test_new_settings_at_their_defaults_leave_earlier_runs_as_they_are():
    known = {"policy", "forced", "bootstrap_samples", "confidence"}
    assert EvaluateConfig().identity().keys() == known
    assert EvaluateConfig(first_tokens=0).identity().keys() == {*known, "first_tokens"}
