"""Difference-awareness metrics of one model on one set of questions, with intervals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dart_jax.audit.screen import without_room
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.records import Condition, Decision, Generation, Question
from dart_jax.summaries import Estimate

RATES = ("accuracy", "equal_accuracy", "diff_accuracy", "yes_rate", "unparseable_rate")
INTERVALS = ("accuracy", "equal_accuracy", "diff_accuracy")

Bounds = tuple[float, float]
"""Low and high end of an interval."""

_BATCH_CELLS = 4_000_000  # resampled values held at once: about 64 MB with their indices


class UnmatchedGenerations(ValueError):
    """Questions and generations are not one to one; the message names the ids."""


@dataclass(frozen=True)
class Rates:
    """How a model decided on some questions; every rate is in [0, 1], None over no questions.

    Attributes:
        n: Labelled questions.
        equal_accuracy, diff_accuracy: Over the questions of that label.
        yes_rate, unparseable_rate: Over all; an unparseable answer is wrong and not YES.
    """

    n: int
    accuracy: float | None
    equal_accuracy: float | None
    diff_accuracy: float | None
    yes_rate: float | None
    unparseable_rate: float | None


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of three rates; None where there is nothing to resample."""

    accuracy: Bounds | None
    equal_accuracy: Bounds | None
    diff_accuracy: Bounds | None


@dataclass(frozen=True)
class ModelMetrics(Rates):
    """The rates of one model, with intervals and by benchmark.

    Attributes:
        unlabelled, no_room: Questions without a label (own data), and those whose prompt left no
            room for an answer, which are in no rate.
    """

    unlabelled: int
    no_room: int
    intervals: Intervals
    by_benchmark: dict[str, Rates]

    def estimate(self, rate: str) -> Estimate:
        """A rate, with its interval where it has one."""
        return estimate(getattr(self, rate), getattr(self.intervals, rate, None))


def estimate(value: float | None, bounds: Bounds | None) -> Estimate:
    """A value with its interval, if any."""
    return Estimate(value, *(bounds or ()))


def model_metrics(
    questions: Sequence[Question],
    generations: Sequence[Generation],
    config: EvaluateConfig,
    seed: int,
) -> ModelMetrics:
    """Accuracy by condition, decision rates and bootstrap intervals of one model.

    Questions of one scenario are resampled together. Rows are ordered by question id before that:
    the order of the inputs does not matter, and models measured on the same questions with the
    same seed see the same resamples (paired).

    Args:
        questions: The questions asked.
        generations: One model's answers, one to each question, in any order.
        config: Number of resamples and coverage.
        seed: Of the resampling.

    Raises:
        UnmatchedGenerations: A question without an answer, an answer without its question,
            or an id that comes twice.
    """
    matched = match_answers(questions, generations)
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


def bootstrap_interval(
    values: np.ndarray,
    config: EvaluateConfig,
    seed: int,
    clusters: np.ndarray | None = None,
) -> Bounds | None:
    """Percentile bootstrap interval of a mean over questions; whole clusters are resampled.

    Questions made from one scenario resemble each other. Resampled one by one, they would promise
    more than they know.

    Args:
        values: [n] one value for each question.
        config: Number of resamples and coverage.
        seed: The same seed and clusters give the same resamples, so that intervals are paired.
        clusters: [n] cluster of each question; None: each for itself.

    Returns:
        `(low, high)`; `(v, v)` where every value is v; None without values, or where one cluster
        holds them all and differ: there is nothing to resample.
    """
    if not len(values):
        return None
    if np.all(values == values[0]):  # nothing to resample; also a single row
        return float(values[0]), float(values[0])

    keys = np.arange(len(values)) if clusters is None else clusters
    _, index = np.unique(keys, return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    if len(sizes) < 2:
        return None

    means, rng = [], np.random.default_rng(seed)
    batch = max(1, _BATCH_CELLS // len(sizes))
    for done in range(0, config.bootstrap_samples, batch):
        count = min(batch, config.bootstrap_samples - done)
        drawn = rng.integers(len(sizes), size=(count, len(sizes)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))

    tails = (1 - config.confidence) / 2, (1 + config.confidence) / 2
    low, high = np.quantile(np.concatenate(means), tails)

    return float(low), float(high)


def answered_by_all(
    questions: Sequence[Question], answers: Mapping[str, Sequence[Generation]]
) -> tuple[list[Question], dict[str, list[Generation]]]:
    """Leave out the questions whose prompt left no room for an answer under one of the models.

    Args:
        answers: By model; the shortcut baseline, which needs no room, may be among them.

    Returns:
        The other questions in their order, and each model's answers to them.
    """
    left_out = without_room(*answers.values())
    return (
        [question for question in questions if question.id not in left_out],
        {
            name: [answer for answer in of_model if answer.question_id not in left_out]
            for name, of_model in answers.items()
        },
    )


def labelled(questions: Iterable[Question]) -> list[Question]:
    """Questions that have a gold label."""
    return [question for question in questions if question.condition is not None]


def scenario_of(question: Question) -> str:
    """The cluster of a question: scenarios are unique within their benchmark."""
    return f"{question.benchmark} {question.scenario_id}"


def match_answers(
    questions: Sequence[Question], generations: Sequence[Generation]
) -> list[tuple[Question, Generation]]:
    """Questions with their answers, by id. Raises UnmatchedGenerations."""
    asked = _by_id([(question.id, question) for question in questions], "questions")
    answered = _by_id([(answer.question_id, answer) for answer in generations], "generations")
    problems = [
        f"{what}: {_some(ids)}"
        for what, ids in (
            ("questions without a generation", asked.keys() - answered.keys()),
            ("generations without a question", answered.keys() - asked.keys()),
        )
        if ids
    ]
    if problems:
        raise UnmatchedGenerations(
            "; ".join(problems) + "; evaluate a model on the very questions it was decoded for"
        )

    return [(asked[key], answered[key]) for key in sorted(asked)]


def match_labelled(
    questions: Sequence[Question], generations: Sequence[Generation]
) -> list[tuple[Question, Generation]]:
    """Labelled questions with their answers, by id; answers to unlabelled ones may be there.

    Raises:
        UnmatchedGenerations: As `match_answers`.
    """
    unlabelled = {question.id for question in questions if question.condition is None}
    judged = [answer for answer in generations if answer.question_id not in unlabelled]
    return match_answers(labelled(questions), judged)


def _by_id(items: list[tuple[str, object]], what: str) -> dict:
    counts = Counter(key for key, _ in items)
    repeated = {key for key, count in counts.items() if count > 1}
    if repeated:
        raise UnmatchedGenerations(f"{what} with the same id: {_some(repeated)}")
    return dict(items)


def _some(ids: set[str]) -> str:
    shown = sorted(ids)[:5]
    return ", ".join(shown) + (f" and {len(ids) - len(shown)} more" if len(ids) > 5 else "")


def _indicators(rows: list[tuple[Question, Generation]]) -> dict[str, np.ndarray]:
    """0/1 for each row that a rate is taken over; the rate is the mean."""
    decisions = [answer.decision for _, answer in rows]
    correct = np.array([answer.decision is question.gold for question, answer in rows], float)
    equal = np.array([question.condition is Condition.EQUAL for question, _ in rows], bool)
    return {
        "accuracy": correct,
        "equal_accuracy": correct[equal],
        "diff_accuracy": correct[~equal],
        "yes_rate": np.array([decision is Decision.YES for decision in decisions], float),
        "unparseable_rate": np.array([decision is None for decision in decisions], float),
    }


def _clusters(rows: list[tuple[Question, Generation]]) -> dict[str, np.ndarray]:
    """The scenario of each row that an interval is taken over."""
    scenarios = np.array([scenario_of(question) for question, _ in rows], str)
    equal = np.array([question.condition is Condition.EQUAL for question, _ in rows], bool)
    return {
        "accuracy": scenarios,
        "equal_accuracy": scenarios[equal],
        "diff_accuracy": scenarios[~equal],
    }


def _rates(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of `Rates`."""
    rates = {name: float(values[name].mean()) if len(values[name]) else None for name in RATES}
    return {"n": len(values["accuracy"]), **rates}


def _rates_of_benchmark(rows: list[tuple[Question, Generation]], benchmark: str) -> Rates:
    own = [row for row in rows if row[0].benchmark == benchmark]
    return Rates(**_rates(_indicators(own)))
