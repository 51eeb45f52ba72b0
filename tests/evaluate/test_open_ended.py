"""Outcome shares and paired tests of open-ended answers, against counts made by hand."""

import math
from dataclasses import replace

import pytest

from dart_jax.audit.open_ended import JudgedAnswer, Outcome
from dart_jax.data.open_ended import OpenEndedQuery
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import UnmatchedGenerations
from dart_jax.evaluate.open_ended import compare_outcomes, outcome_shares
from dart_jax.records import JudgeFailure, from_json, to_json

GOOD, UNIFORM, DIFFERENT, REFUSED = Outcome
CONFIG = EvaluateConfig(bootstrap_samples=200)
QUERIES = [
    OpenEndedQuery(f"{domain}-{n:03d}", domain, "sex", "Q?", True, "R.", "S 2000")
    for domain, count in (("medical", 8), ("legal", 4))
    for n in range(1, count + 1)
]


def judged(model, outcomes):
    return [
        JudgeFailure(query.id, model, "timeout", 3, "judge")
        if outcome is None
        else JudgedAnswer(query.id, model, outcome, "", "", "judge")
        for query, outcome in zip(QUERIES, outcomes, strict=True)
    ]


M0 = judged("M0", [REFUSED] * 4 + [UNIFORM] * 3 + [None] + [DIFFERENT, GOOD, GOOD, REFUSED])
M_DART = judged("M_DART", [GOOD] * 6 + [UNIFORM, GOOD] + [GOOD, GOOD, REFUSED, GOOD])


def test_shares_are_over_judged_answers_and_add_up_to_one():
    shares = outcome_shares(QUERIES, M0, CONFIG, seed=0)
    assert list(shares) == ["all", "medical", "legal"]
    medical = shares["medical"]
    assert (medical.n, medical.judge_failed) == (8, 1)
    assert medical.refusal == 4 / 7 and medical.wrongly_uniform == 3 / 7
    assert shares["legal"].difference_appropriate == 0.5
    for part in shares.values():
        assert math.isclose(sum(getattr(part, outcome) for outcome in Outcome), 1.0)


def test_intervals_enclose_the_share_and_do_not_depend_on_order():
    shares = outcome_shares(QUERIES, M0, CONFIG, seed=0)
    for outcome in (GOOD, REFUSED):
        low, high = shares["all"].intervals[outcome]
        assert 0 <= low < getattr(shares["all"], outcome) < high <= 1
    assert outcome_shares(QUERIES[::-1], M0[::-1], CONFIG, seed=0) == shares


def test_nothing_judged_gives_no_share():
    shares = outcome_shares(QUERIES, judged("M0", [None] * 12), CONFIG, seed=0)
    assert shares["all"].judge_failed == 12
    assert shares["all"].refusal is None
    assert shares["all"].intervals["refusal"] is None


def test_pairs_are_compared_query_by_query():
    compared = compare_outcomes(QUERIES, M0, M_DART)
    assert (compared["all"].pairs, compared["all"].judge_failed) == (11, 1)
    good, refused = getattr(compared["all"], GOOD), getattr(compared["all"], REFUSED)
    assert (good.gained, good.lost) == (8, 1)
    assert (refused.gained, refused.lost) == (1, 5)
    assert good.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert (getattr(compared["legal"], GOOD).gained, getattr(compared["legal"], GOOD).lost) == (
        2,
        1,
    )


def test_swapping_the_models_swaps_gains_and_losses():
    there, back = compare_outcomes(QUERIES, M0, M_DART), compare_outcomes(QUERIES, M_DART, M0)
    for part in there:
        assert getattr(there[part], GOOD).gained == getattr(back[part], GOOD).lost
        assert getattr(there[part], GOOD).p == getattr(back[part], GOOD).p


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (M0[:-1], "legal-004"),
        ([*M0[:-1], M0[0]], "not one to one"),
        ([replace(M0[0], query_id="medical-099"), *M0[1:]], "medical-099"),
        ([*M0[:-1], M_DART[-1]], "several models at once: M0, M_DART"),
    ],
)
def test_judgements_that_do_not_fit_the_queries_are_refused(wrong, message):
    with pytest.raises(UnmatchedGenerations, match=message):
        outcome_shares(QUERIES, wrong, CONFIG, seed=0)


def test_a_judged_answer_round_trips():
    assert from_json(to_json(M_DART[0]), JudgedAnswer) == M_DART[0]
