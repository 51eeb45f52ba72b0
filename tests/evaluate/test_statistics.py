"""The statistics of a small test set, by hand and by identities."""

from dataclasses import replace

import numpy as np
import pytest

from dart_jax.audit.screen import Pair
from dart_jax.evaluate.bootstrap import bootstrap_interval, unseen_share
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import UnmatchedGenerations, model_metrics
from dart_jax.evaluate.statistics import Accuracy, statistics
from dart_jax.records import (
    Condition,
    Decision,
    DriftType,
    Generation,
    Question,
    Score,
    Severity,
    Verdict,
)
from dart_jax.summaries import to_pretty_json

CONFIG = EvaluateConfig(bootstrap_samples=300)
MODELS = ("M0", "M_int", "M_DART", "shortcut")


def question(number: int, benchmark: str, condition: str, scenario: str) -> Question:
    return Question(f"q{number:02}", benchmark, Condition(condition), "?", 0, scenario)


# Four scenarios of two questions, DIFF and EQUAL, in a descriptive and a normative benchmark.
QUESTIONS = [
    question(number, benchmark, condition, f"s{number // 2}")
    for number, (benchmark, condition) in enumerate(
        (benchmark, condition)
        for benchmark in ("D1", "D1", "N2", "N2")
        for condition in ("diff", "equal")
    )
]
RIGHT = {
    "M0": (1, 0, 0, 0, 1, 0, 0, 0),
    "M_int": (1, 1, 0, 1, 0, 0, 1, 0),
    "M_DART": (1, 1, 1, 1, 0, 1, 1, 1),
    "shortcut": (1, 1, 1, 1, 1, 1, 0, 0),
}


def answers_of(model: str, right, questions=QUESTIONS) -> list[Generation]:
    other = {Decision.YES: Decision.NO, Decision.NO: Decision.YES}
    return [
        Generation(q.id, model, "", q.gold if ok else other[q.gold], None, None, 1, 1)
        for q, ok in zip(questions, right, strict=True)
    ]


def scores_of(questions=QUESTIONS, rise=0.125) -> list[Score]:
    """M_int scores higher than M0 on every question, M_DART the same as M0."""
    return [
        Score(q.id, model, "a", index / 16 + (rise if model == "M_int" else 0))
        for model in MODELS[:3]
        for index, q in enumerate(questions)
    ]


def pairs_of(model: str) -> list[Pair]:
    baseline, candidate = answers_of("M0", RIGHT["M0"]), answers_of(model, RIGHT[model])
    return [
        Pair(b.question_id, b, c, 0.0, index / 16, {"a": index / 16})
        for index, (b, c) in enumerate(zip(baseline, candidate, strict=True))
    ]


def verdict(pair: Pair, drift: bool, judge: str = "openai:x") -> Verdict:
    kind = (DriftType.OMITS, Severity.MINOR) if drift else (None, None)
    return Verdict(pair.question_id, "M_int", drift, *kind, "", "", judge)


def found(right=RIGHT, audits=None, questions=QUESTIONS, scores=None) -> dict:
    answers = {name: answers_of(name, rows, questions) for name, rows in right.items()}
    scores = scores_of(questions) if scores is None else scores
    return statistics(questions, answers, scores, audits or {}, CONFIG, seed=0)


def row_of(statistics: dict, group: str) -> dict:
    [row] = [row for row in statistics.accuracy if row.group == group]
    return row


def comparison(row: dict, candidate: str, baseline: str) -> dict:
    [one] = [
        each for each in row.comparisons if (each.candidate, each.baseline) == (candidate, baseline)
    ]
    return one


def test_accuracy_by_hand():
    everything = found()
    assert (everything.questions, everything.scenarios) == (8, 4)
    groups = [(row.by, row.group, row.n) for row in everything.accuracy]
    assert groups == [
        ("all", "all", 8),
        ("benchmark", "D1", 4),
        ("benchmark", "N2", 4),
        ("kind", "descriptive", 4),
        ("kind", "normative", 4),
        ("condition", "DIFF", 4),
        ("condition", "EQUAL", 4),
    ]
    row = row_of(everything, "all")
    rates = {name: of_model.accuracy for name, of_model in row.models.items()}
    assert rates == {"M0": 2 / 8, "M_int": 4 / 8, "M_DART": 7 / 8, "shortcut": 6 / 8}
    against_m0 = comparison(row, "M_DART", "M0")
    assert against_m0.difference == pytest.approx(5 / 8)
    assert (against_m0.gained, against_m0.lost) == (6, 1)
    assert against_m0.p == pytest.approx(2 * (1 + 7) / 2**7)
    # By scenario the gains are 1, 2, 0, 2: of the signs of 1, 2 and 2, two of eight reach 5.
    assert against_m0.p_scenario == pytest.approx(2 / 8)
    assert against_m0.p_holm == against_m0.p  # the only group of its kind
    assert row_of(everything, "N2").scenarios == 2


def test_holm_is_over_the_groups_of_a_comparison():
    rows = found().accuracy
    both = [comparison(row, "M_DART", "M_int") for row in rows if row.by == "benchmark"]
    assert [each.p for each in both] == [1.0, 0.5]
    assert [each.p_holm for each in both] == [1.0, 1.0]


def test_the_rates_are_those_of_the_metrics():
    everything = found()
    for name, right in RIGHT.items():
        metrics = model_metrics(QUESTIONS, answers_of(name, right), CONFIG, seed=0)
        row = row_of(everything, "all").models[name]
        assert (row.accuracy, row.interval) == (
            metrics.accuracy,
            metrics.intervals.accuracy,
        )
        for group, key in (("DIFF", "diff_accuracy"), ("EQUAL", "equal_accuracy")):
            assert row_of(everything, group).models[name].accuracy == getattr(metrics, key)


def test_swapped_models_change_the_sign_only():
    swapped = found({**RIGHT, "M0": RIGHT["M_DART"], "M_DART": RIGHT["M0"]})
    for row, other in zip(found().accuracy, swapped.accuracy, strict=True):
        there, back = (comparison(each, "M_DART", "M0") for each in (row, other))
        assert there.difference == -back.difference
        assert (there.gained, there.lost) == (back.lost, back.gained)
        for key in ("p", "p_holm", "p_scenario"):
            assert getattr(there, key) == getattr(back, key)
        if there.interval:
            assert there.interval == pytest.approx([-x for x in back.interval[::-1]])


@pytest.mark.filterwarnings("error")
def test_equal_models_differ_in_nothing():
    same = found(dict.fromkeys(MODELS, RIGHT["M0"]), scores=scores_of(rise=0.0))
    for row in same.accuracy:
        for each in row.comparisons:
            assert each.difference == 0.0
            # All scenarios agree: the more of them, the narrower.
            share = unseen_share(row.scenarios, 0.95)
            alone = row.scenarios == 1
            assert each.interval == (None if alone else pytest.approx((-share, share)))
            assert (each.p, each.p_holm, each.p_scenario) == (1.0, 1.0, 1.0)
    assert all(row.p == 1.0 and row.effect == 0.0 for row in same.scores.paired)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_questions_are_json_without_nan(count):
    few = QUESTIONS[:count]
    right = {name: rows[:count] for name, rows in RIGHT.items()}
    everything = found(right, questions=few)
    to_pretty_json(everything)
    if count == 2:  # one scenario: nothing to resample where its questions differ
        assert row_of(everything, "all").models["M0"] == Accuracy(0.5, None)
    if count == 1:
        [unpaired] = {
            (row.p, row.effect) for row in everything.scores.unpaired if row.group == "D1"
        }
        assert unpaired == (None, None)


def test_scores_by_hand():
    scores = found().scores
    [rises] = [
        row
        for row in scores.paired
        if (row.candidate, row.baseline, row.group) == ("M_int", "M0", "all")
    ]
    assert (rises.n, rises.nonzero, rises.effect) == (8, 8, 1.0)
    assert rises.mean_difference == pytest.approx(0.125)
    assert 0 < rises.p < 0.02
    [conditions] = [row for row in scores.unpaired if (row.model, row.group) == ("M0", "all")]
    # Scores rise with the question's number, DIFF before EQUAL: 6 of 16 comparisons are higher.
    assert (conditions.first, conditions.second) == ("DIFF", "EQUAL")
    assert conditions.effect == pytest.approx((6 - 10) / 16)


def test_the_judge_against_the_scorer():
    pairs = pairs_of("M_int")
    outcomes = [verdict(pair, pair.delta > 0.2) for pair in pairs]
    [row] = [
        row
        for row in found(audits={"M_int": (pairs, outcomes)}).scores.unpaired
        if row.what == "delta"
    ]
    assert (row.model, row.first, row.n_first, row.n_second) == ("M_int", "drift", 4, 4)
    assert row.effect == 1.0
    alone = [verdict(pair, pair.delta > 0.2, "screen") for pair in pairs]
    rows = found(audits={"M_int": (pairs, alone)}).scores.unpaired
    assert [row for row in rows if row.what == "delta"] == []


def test_a_missing_answer_or_score_is_named():
    answers = {name: answers_of(name, right) for name, right in RIGHT.items()}
    answers["M_int"].pop()
    with pytest.raises(UnmatchedGenerations, match="q07"):
        statistics(QUESTIONS, answers, scores_of(), {}, CONFIG, 0)
    with pytest.raises(ValueError, match="M_DART: no a score of the answer to q07"):
        found(scores=scores_of()[:-1])


def test_clusters_of_one_question_are_no_clusters():
    values = np.random.default_rng(0).integers(0, 2, 40).astype(float)
    config = EvaluateConfig(bootstrap_samples=400)
    alone = bootstrap_interval(values, config, 3)
    assert bootstrap_interval(values, config, 3, np.arange(40)) == alone
    # Forty rows that are four rows ten times over know no more than the four.
    four = np.array([0.0, 1.0, 1.0, 0.0])
    tenfold = bootstrap_interval(np.tile(four, 10), config, 3, np.tile(np.arange(4), 10))
    assert tenfold == pytest.approx(bootstrap_interval(four, config, 3))
    assert np.ptp(tenfold) > np.ptp(bootstrap_interval(np.tile(four, 10), config, 3))


def unanswered(answer: Generation) -> Generation:
    """The same, to a prompt that left no room for an answer."""
    return replace(answer, decision=None, unparseable="too long", stop=None, new_tokens=0)


def test_a_prompt_without_room_is_in_no_test():
    left_out = QUESTIONS[2].id
    answers = {name: answers_of(name, RIGHT[name]) for name in MODELS}
    no_room = {
        name: [
            unanswered(a) if a.question_id == left_out and name != "shortcut" else a
            for a in of_model
        ]
        for name, of_model in answers.items()
    }
    scores = [score for score in scores_of() if score.question_id != left_out]
    found = statistics(QUESTIONS, no_room, scores, {}, CONFIG, 0)

    others = [question for question in QUESTIONS if question.id != left_out]
    fewer = {
        name: [a for a in of_model if a.question_id != left_out]
        for name, of_model in answers.items()
    }
    assert found == statistics(others, fewer, scores, {}, CONFIG, 0)
    assert found.questions == 7 and found.accuracy[0].n == 7


def test_where_no_prompt_had_room_there_is_nothing_to_test():
    answers = {name: list(map(unanswered, answers_of(name, RIGHT[name]))) for name in MODELS[:3]}
    assert statistics(QUESTIONS, answers, [], {}, CONFIG, 0) is None
