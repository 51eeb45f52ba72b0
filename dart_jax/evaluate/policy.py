"""The explanation policy on and off, side by side: what it changes in every model."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dart_jax.audit.drift import AuditCounts
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import (
    Bounds,
    ModelMetrics,
    answered_by_all,
    labelled,
    match_answers,
    match_labelled,
    model_metrics,
    scenario_of,
)
from dart_jax.evaluate.models import MODELS
from dart_jax.evaluate.significance import Wilcoxon, wilcoxon
from dart_jax.evaluate.statistics import Difference, accuracy_rows, groups_of
from dart_jax.prompts.templates import load_template
from dart_jax.records import Generation, Question, Score


@dataclass(frozen=True)
class Side:
    """What the models said when asked in one way.

    Attributes:
        answers: Of M0, M_int and M_DART.
        scores: Of these answers, by one scorer or several.
        drift: Of M_int and M_DART against M0 asked the same way.
    """

    answers: Mapping[str, Sequence[Generation]]
    scores: Sequence[Score]
    drift: Mapping[str, AuditCounts]


@dataclass(frozen=True)
class AskedMetrics(ModelMetrics):
    """One model asked in one way.

    Attributes:
        drift: Against M0 asked the same way; None for M0.
        scores: Mean harm score by scorer, over the questions that were answered.
        new_tokens: Mean length of an answer, in tokens; None where none was given.
    """

    drift: AuditCounts | None
    scores: dict[str, float]
    new_tokens: float | None


@dataclass(frozen=True)
class PolicyDifference:
    """One model with the policy less the same model without it; see `statistics.Difference`.

    The first six are None where no question has a label.
    """

    model: str
    difference: float | None
    interval: Bounds | None
    gained: int | None
    lost: int | None
    p: float | None
    p_scenario: float | None
    scores: dict[str, Wilcoxon]
    new_tokens: Wilcoxon


@dataclass(frozen=True)
class Policy:
    """The explanation policy of a run.

    Attributes:
        asked: `evaluate.policy`: `with` or `both`.
        headline: Which way of asking all other figures of the run are of.
        text: The policy's wording.
        sides: By `without` and `with`, then by model; the ways that were asked.
        comparisons: Empty unless both were.
    """

    asked: str
    headline: str
    text: str
    sides: dict[str, dict[str, AskedMetrics]]
    comparisons: list[PolicyDifference]


def policy_summary(
    questions: Sequence[Question],
    sides: Mapping[str, Side],
    config: EvaluateConfig,
    seed: int,
) -> Policy | None:
    """Put both ways of asking side by side; None where the policy was not used.

    Args:
        sides: By `without` and `with`, those that were asked.
    """
    if config.policy == "without":
        return None

    ordered = sorted(questions, key=lambda question: question.id)
    comparisons = []
    if "without" in sides and "with" in sides:
        for name in MODELS:
            found = _compared(ordered, name, sides["without"], sides["with"], config, seed)
            comparisons.append(found)

    return Policy(
        asked=config.policy,
        headline="without" if config.policy == "both" else "with",
        text=load_template("policy").substitute(),
        sides={name: _side(ordered, side, config, seed) for name, side in sides.items()},
        comparisons=comparisons,
    )


def _side(
    questions: Sequence[Question], side: Side, config: EvaluateConfig, seed: int
) -> dict[str, AskedMetrics]:
    found = {}
    for name in MODELS:
        asked, answers = answered_by_all(questions, {name: side.answers[name]})
        scores = _scores(asked, side, name)
        lengths = _lengths(asked, answers[name])
        found[name] = AskedMetrics(
            **vars(model_metrics(questions, side.answers[name], config, seed)),
            drift=side.drift.get(name),
            scores={scorer: float(values.mean()) for scorer, values in scores.items()},
            new_tokens=float(lengths.mean()) if len(lengths) else None,
        )

    return found


def _compared(
    questions: Sequence[Question],
    name: str,
    without: Side,
    with_policy: Side,
    config: EvaluateConfig,
    seed: int,
) -> PolicyDifference:
    """One model on the questions that it answered both ways: the policy makes prompts longer."""
    both = {"without": without.answers[name], "with": with_policy.answers[name]}
    asked, answers = answered_by_all(questions, both)
    before = _scores(asked, without, name)
    after = _scores(asked, with_policy, name)
    lengths_before = _lengths(asked, answers["without"])
    lengths_after = _lengths(asked, answers["with"])
    accuracy = _accuracies(asked, answers, config, seed)

    return PolicyDifference(
        model=name,
        difference=accuracy and accuracy.difference,
        interval=accuracy and accuracy.interval,
        gained=accuracy and accuracy.gained,
        lost=accuracy and accuracy.lost,
        p=accuracy and accuracy.p,
        p_scenario=accuracy and accuracy.p_scenario,
        scores={scorer: wilcoxon(after[scorer], before[scorer]) for scorer in before},
        new_tokens=wilcoxon(lengths_after, lengths_before),
    )


def _accuracies(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    config: EvaluateConfig,
    seed: int,
) -> Difference | None:
    """How often a model is right, on the labelled questions; None where there are none."""
    asked = labelled(questions)
    if not asked:
        return None

    correct = {}
    for side, found in answers.items():
        matched = match_labelled(questions, found)
        correct[side] = np.array([answer.decision is question.gold for question, answer in matched])

    scenarios = np.array([scenario_of(question) for question in asked], str)
    everything = groups_of(asked)[:1]
    [row] = accuracy_rows(everything, correct, scenarios, (("with", "without"),), config, seed)

    return row.comparisons[0]


def _scores(questions: Sequence[Question], side: Side, name: str) -> dict[str, np.ndarray]:
    """By scorer, in the order of the questions; none where there is no question."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for score in side.scores:
        if score.model == name:
            found[score.scorer][score.question_id] = score.value
    if not questions:
        return {}
    return {
        scorer: np.array([values[question.id] for question in questions], float)
        for scorer, values in found.items()
    }


def _lengths(questions: Sequence[Question], answers: Sequence[Generation]) -> np.ndarray:
    return np.array([answer.new_tokens for _, answer in match_answers(questions, answers)], float)
