"""The policy's two sides, by hand."""

import dataclasses

import pytest

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.policy import Side, policy_summary
from dart_jax.prompts.templates import load_template
from dart_jax.report.statistics import policy as policy_section
from dart_jax.report.to_markdown import blocks_to_markdown
from dart_jax.summaries import to_pretty_json
from tests.evaluate.conftest import drift, made_up_summary
from tests.evaluate.test_statistics import QUESTIONS, RIGHT, answers_of, scores_of, unanswered

CONFIG = EvaluateConfig(bootstrap_samples=200, policy="both")
MODELS = ("M0", "M_int", "M_DART")
WITHOUT = Side(
    {name: answers_of(name, RIGHT[name]) for name in MODELS},
    scores_of(),
    {"M_int": drift(4, 3, 2, 1), "M_DART": drift(2, 0, 0, 0)},
)


def with_policy(right=RIGHT, tokens=1) -> Side:
    answers = {
        name: [dataclasses.replace(a, new_tokens=tokens) for a in answers_of(name, right[name])]
        for name in MODELS
    }
    scores = [dataclasses.replace(s, value=s.value / 2) for s in scores_of()]
    return Side(answers, scores, {"M_int": drift(1, 0, 0, 0), "M_DART": drift(0, 0, 0, 0)})


def test_both_sides_by_hand():
    better = {**RIGHT, "M0": (1,) * 8}
    sides = {"without": WITHOUT, "with": with_policy(better, tokens=3)}
    found = policy_summary(QUESTIONS, sides, CONFIG, 0)
    to_pretty_json(found)
    assert (found.asked, found.headline) == ("both", "without")
    assert found.text == load_template("policy").substitute()
    without, asked = (found.sides[name]["M0"] for name in ("without", "with"))
    assert (without.accuracy, asked.accuracy) == (2 / 8, 1.0)
    assert (without.new_tokens, asked.new_tokens) == (1.0, 3.0)
    assert asked.scores["a"] == pytest.approx(without.scores["a"] / 2)
    assert without.drift is None
    assert found.sides["with"]["M_int"].drift.confirmed == 1
    m0, m_int, _ = found.comparisons
    assert (m0.model, m0.difference) == ("M0", 6 / 8)
    assert (m0.gained, m0.lost, m0.p) == (6, 0, pytest.approx(2 / 2**6))
    assert m0.new_tokens.effect == 1.0 and m0.new_tokens.mean_difference == 2.0
    # The first question's score is 0 on either side.
    assert (m0.scores["a"].effect, m0.scores["a"].nonzero) == (-1.0, 7)
    assert (m_int.difference, m_int.p) == (0.0, 1.0)
    low, high = m_int.interval
    assert low == -high < 0, "eight questions alike are no certainty"


def test_one_side_is_compared_with_nothing():
    config = dataclasses.replace(CONFIG, policy="with")
    found = policy_summary(QUESTIONS, {"with": with_policy()}, config, 0)
    assert (found.headline, found.comparisons) == ("with", [])
    assert list(found.sides) == ["with"]
    none = dataclasses.replace(CONFIG, policy="without")
    assert policy_summary(QUESTIONS, {"without": WITHOUT}, none, 0) is None


def test_the_report_shows_the_sides():
    sides = {"without": WITHOUT, "with": with_policy()}
    found = policy_summary(QUESTIONS, sides, CONFIG, 0)
    page = blocks_to_markdown([policy_section(made_up_summary(policy=found))])
    assert page.startswith("## Explanation policy")
    assert r"| M_int | without |" in page and r"| M_int | with |" in page
    assert "protocol heldout, split by row" in page
    assert policy_section(made_up_summary()) is None


def without_room(side: Side, ids: set[str]) -> Side:
    """The side whose prompts to these questions left no room; what is not answered has no score."""
    return Side(
        {
            name: [unanswered(a) if a.question_id in ids else a for a in answers]
            for name, answers in side.answers.items()
        },
        [score for score in side.scores if score.question_id not in ids],
        side.drift,
    )


def test_the_policy_may_take_the_last_room():
    """The longer prompt is without an answer: it is in no mean of its side and in no test."""
    ids = {QUESTIONS[0].id}
    sides = {"without": WITHOUT, "with": without_room(with_policy(tokens=3), ids)}
    found = policy_summary(QUESTIONS, sides, CONFIG, 0)
    to_pretty_json(found)
    without, asked = (found.sides[name]["M0"] for name in ("without", "with"))
    assert (without.n, without.no_room) == (8, 0)
    assert (asked.n, asked.no_room, asked.new_tokens) == (7, 1, 3.0)
    assert asked.scores["a"] == pytest.approx(sum(range(1, 8)) / 16 / 2 / 7)
    m0 = found.comparisons[0]
    assert (m0.new_tokens.n, m0.scores["a"].n) == (7, 7)
    assert m0.difference == 0.0


def test_no_room_at_all_is_said_and_divides_by_nothing():
    ids = {question.id for question in QUESTIONS}
    sides = {"without": WITHOUT, "with": without_room(with_policy(), ids)}
    found = policy_summary(QUESTIONS, sides, CONFIG, 0)
    to_pretty_json(found)
    asked = found.sides["with"]["M0"]
    assert (asked.n, asked.no_room) == (0, 8)
    assert (asked.accuracy, asked.new_tokens, asked.scores) == (None, None, {})
    assert found.comparisons[0].difference is None
