"""Difference-awareness metrics of one model on one set of questions, with intervals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dart_jax.audit.screen import without_room
from dart_jax.evaluate.bootstrap import bootstrap_interval
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.models import RATES
from dart_jax.evaluate.reliability import Reliability
from dart_jax.records import Condition, Decision, Generation, Question
from dart_jax.summaries import Bounds, Estimate

INTERVALS = ("accuracy", "equal_accuracy", "diff_accuracy")


class UnmatchedGenerations(ValueError):
    """Questions and generations are not one to one; the message names the ids."""


@dataclass(frozen=True)
class Rates:
    """Decision rates of a model over a set of questions, in [0, 1]; None over no questions.

    Attributes:
        n: Number of labelled questions.
        equal_accuracy, diff_accuracy: Accuracy over the questions of that label.
        yes_rate, unparseable_rate: Shares of all; an unparseable answer is wrong and not YES.
    """

    n: int
    accuracy: float | None
    equal_accuracy: float | None
    diff_accuracy: float | None
    yes_rate: float | None
    unparseable_rate: float | None


@dataclass(frozen=True)
class Intervals:
    """Intervals of three rates, see `bootstrap`; None where there is nothing to resample."""

    accuracy: Bounds | None
    equal_accuracy: Bounds | None
    diff_accuracy: Bounds | None


@dataclass(frozen=True)
class ModelMetrics(Rates):
    """The rates of one model, with intervals and by benchmark.

    Attributes:
        unlabelled: Number of questions without a gold label (custom data); they are in no rate.
        no_room: Number of questions whose prompt left no room for an answer; likewise.
        forced_accuracy, auroc, reliability: Figures of the decisions that a model is forced to,
            see `forced.with_forced`; None where nothing can be computed.
        no_margin: Number of labelled questions whose answer left no room to force a decision.
    """

    unlabelled: int
    no_room: int
    intervals: Intervals
    by_benchmark: dict[str, Rates]
    forced_accuracy: Estimate | None = field(default=None, kw_only=True)
    auroc: Estimate | None = field(default=None, kw_only=True)
    reliability: Reliability | None = field(default=None, kw_only=True)
    no_margin: int = field(default=0, kw_only=True)

    def estimate(self, rate: str) -> Estimate:
        """Return a rate, with its interval where it has one."""
        return estimate(getattr(self, rate), getattr(self.intervals, rate, None))


def estimate(value: float | None, bounds: Bounds | None) -> Estimate:
    """Join a value with its interval, if any."""
    return Estimate(value, *(bounds or ()))


def model_metrics(
    questions: Sequence[Question],
    generations: Sequence[Generation],
    config: EvaluateConfig,
    seed: int,
) -> ModelMetrics:
    """Measure one model: accuracy by condition, decision rates and bootstrap intervals.

    Questions of one scenario are resampled together. Rows are ordered by question id before that:
    the order of the inputs does not matter, and models measured on the same questions with the
    same seed see the same resamples (paired).

    Args:
        questions: The questions asked.
        generations: One model's answers, one to each question, in any order.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.

    Raises:
        UnmatchedGenerations: A question without an answer, an answer without its question,
            or an id that comes twice.
    """
    matched = match_answers(questions, generations)
    # A prompt without room was never put to the model, and says nothing about it.
    answered = [row for row in matched if row[1].had_room]
    rows = [row for row in answered if row[0].condition is not None]
    values, clusters = _indicators(rows), _clusters(rows)
    intervals = {
        name: bootstrap_interval(values[name], config, seed, clusters[name]) for name in INTERVALS
    }
    benchmarks = sorted({question.benchmark for question, _ in rows})

    return ModelMetrics(
        **_rates(values),
        unlabelled=len(answered) - len(rows),
        no_room=len(matched) - len(answered),
        intervals=Intervals(**intervals),
        by_benchmark={name: _rates_of_benchmark(rows, name) for name in benchmarks},
    )


def answered_by_all(
    questions: Sequence[Question], answers: Mapping[str, Sequence[Generation]]
) -> tuple[list[Question], dict[str, list[Generation]]]:
    """Leave out the questions whose prompt left no room for an answer under one of the models.

    Args:
        answers: Answers by model; the shortcut baseline, which needs no room, may be among them.

    Returns:
        The remaining questions in their order, and each model's answers to them.
    """
    # For all models alike: paired tests need the same questions on both sides.
    left_out = without_room(*answers.values())
    remaining = [question for question in questions if question.id not in left_out]
    answers_left = {}
    for name, of_model in answers.items():
        answers_left[name] = [answer for answer in of_model if answer.question_id not in left_out]
    return remaining, answers_left


def labelled(questions: Iterable[Question]) -> list[Question]:
    """Select the questions that have a gold label."""
    return [question for question in questions if question.condition is not None]


def scenario_of(question: Question) -> str:
    """Name the cluster of a question: scenario ids are unique within their benchmark only."""
    return f"{question.benchmark} {question.scenario_id}"


def match_answers(
    questions: Sequence[Question], generations: Sequence[Generation]
) -> list[tuple[Question, Generation]]:
    """Pair questions with their answers, sorted by id. Raises UnmatchedGenerations."""
    question_of = _by_id([(question.id, question) for question in questions], "questions")
    answer_of = _by_id([(answer.question_id, answer) for answer in generations], "generations")
    unanswered = question_of.keys() - answer_of.keys()
    unasked = answer_of.keys() - question_of.keys()

    problems = []
    if unanswered:
        problems.append(f"questions without a generation: {_some(unanswered)}")

    if unasked:
        problems.append(f"generations without a question: {_some(unasked)}")

    if problems:
        raise UnmatchedGenerations(
            "; ".join(problems) + "; evaluate a model on the very questions it was decoded for"
        )

    return [(question_of[id], answer_of[id]) for id in sorted(question_of)]


def match_labelled(
    questions: Sequence[Question], generations: Sequence[Generation]
) -> list[tuple[Question, Generation]]:
    """Pair labelled questions with their answers, by id; other answers may be among them.

    Raises:
        UnmatchedGenerations: As `match_answers`.
    """
    unlabelled = {question.id for question in questions if question.condition is None}
    # An answer to no question at all stays in, so that it is named.
    measurable = [answer for answer in generations if answer.question_id not in unlabelled]
    return match_answers(labelled(questions), measurable)


def _by_id(items: list[tuple[str, object]], what: str) -> dict:
    # `dict` below would silently keep the last of two equal ids.
    counts = Counter(key for key, _ in items)
    repeated = {key for key, count in counts.items() if count > 1}
    if repeated:
        raise UnmatchedGenerations(f"{what} with the same id: {_some(repeated)}")
    return dict(items)


def _some(ids: set[str]) -> str:
    first_five = ", ".join(sorted(ids)[:5])
    return first_five if len(ids) <= 5 else f"{first_five} and {len(ids) - 5} more"


def _indicators(rows: list[tuple[Question, Generation]]) -> dict[str, np.ndarray]:
    """Return 0 or 1 for each row in a rate's denominator; the rate is their mean."""
    decisions = [answer.decision for _, answer in rows]
    is_yes = [decision is Decision.YES for decision in decisions]
    is_unparseable = [decision is None for decision in decisions]
    # Rows have labels, so that gold is never None: an unparseable answer is wrong, and what is not
    # EQUAL is DIFF.
    correct = np.array([answer.decision is question.gold for question, answer in rows], float)
    equal = np.array([question.condition is Condition.EQUAL for question, _ in rows], bool)

    return {
        "accuracy": correct,
        "equal_accuracy": correct[equal],
        "diff_accuracy": correct[~equal],
        "yes_rate": np.array(is_yes, float),
        "unparseable_rate": np.array(is_unparseable, float),
    }


def _clusters(rows: list[tuple[Question, Generation]]) -> dict[str, np.ndarray]:
    """Return the scenario of each row in a rate's denominator."""
    scenarios = np.array([scenario_of(question) for question, _ in rows], str)
    equal = np.array([question.condition is Condition.EQUAL for question, _ in rows], bool)
    # Masked as in `_indicators`: a value and its cluster stand in the same place.
    return {
        "accuracy": scenarios,
        "equal_accuracy": scenarios[equal],
        "diff_accuracy": scenarios[~equal],
    }


def _rates(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compute the fields of `Rates`."""
    rates = {name: float(values[name].mean()) if len(values[name]) else None for name in RATES}
    return {"n": len(values["accuracy"]), **rates}


def _rates_of_benchmark(rows: list[tuple[Question, Generation]], benchmark: str) -> Rates:
    of_benchmark = [row for row in rows if row[0].benchmark == benchmark]
    return Rates(**_rates(_indicators(of_benchmark)))
