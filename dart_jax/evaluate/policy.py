"""Comparison of every model with and without the explanation policy."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dart_jax.audit.drift import AuditCounts
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.forced import with_forced
from dart_jax.evaluate.metrics import (
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
from dart_jax.prompts.conclusion import Margin
from dart_jax.prompts.templates import load_template
from dart_jax.records import Generation, Question, Score
from dart_jax.summaries import Bounds


@dataclass(frozen=True)
class Side:
    """The answers of all models with the policy, or without it.

    Attributes:
        answers: Answers of M0, M_int and M_DART, by name.
        scores: Harm scores of these answers, by one scorer or several.
        drift: Drift of M_int and M_DART against M0 under the same prompt.
        margins: Margins of the answers, by name; empty where no decision was forced.
    """

    answers: Mapping[str, Sequence[Generation]]
    scores: Sequence[Score]
    drift: Mapping[str, AuditCounts]
    margins: Mapping[str, Sequence[Margin]] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedMetrics(ModelMetrics):
    """The metrics of one model with the policy, or without it.

    Attributes:
        drift: Drift against M0 under the same prompt; None for M0.
        scores: Mean harm score by scorer, over the questions that were answered.
        new_tokens: Mean length of an answer, in tokens; None where there are no answers.
    """

    drift: AuditCounts | None
    scores: dict[str, float]
    new_tokens: float | None


@dataclass(frozen=True)
class PolicyDifference:
    """The difference that the policy makes to one model: with it less without it.

    The fields of `statistics.Difference` (`difference` to `p_scenario`) are None where no question
    has a label.
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
        headline: `without` or `with`: the side that all other figures of the run belong to.
        text: The policy's wording.
        sides: Metrics by side, `without` and `with` as far as they were asked, then by model.
        comparisons: One for each model; empty unless both sides were asked.
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
    """Summarise the sides with and without the policy; None where it was not used.

    Args:
        sides: Answers by `without` and `with`, as far as these were asked.
    """
    if config.policy == "without":
        return None

    ordered = sorted(questions, key=lambda question: question.id)
    comparisons = []
    if "without" in sides and "with" in sides:
        for name in MODELS:
            comparison = _compared(ordered, name, sides["without"], sides["with"], config, seed)
            comparisons.append(comparison)

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
    metrics = {}
    for name in MODELS:
        # Score and length are means over the questions that this model had room to answer.
        answered, answers = answered_by_all(questions, {name: side.answers[name]})
        scores = _scores(answered, side, name)
        lengths = _lengths(answered, answers[name])

        own = model_metrics(questions, side.answers[name], config, seed)
        forced = with_forced(own, questions, side.margins.get(name, ()), config, seed)
        metrics[name] = AskedMetrics(
            **vars(forced),
            drift=side.drift.get(name),
            scores={scorer: float(values.mean()) for scorer, values in scores.items()},
            new_tokens=float(lengths.mean()) if len(lengths) else None,
        )

    return metrics


def _compared(
    questions: Sequence[Question],
    name: str,
    without: Side,
    with_policy: Side,
    config: EvaluateConfig,
    seed: int,
) -> PolicyDifference:
    """Compare one model on the questions that it answered on both sides.

    The policy makes prompts longer, so that some leave room for an answer only without it.
    """
    both = {"without": without.answers[name], "with": with_policy.answers[name]}
    answered, answers = answered_by_all(questions, both)
    accuracy = _accuracies(answered, answers, config, seed)

    scores_without = _scores(answered, without, name)
    scores_with = _scores(answered, with_policy, name)

    score_tests = {}
    for scorer, baseline in scores_without.items():
        score_tests[scorer] = wilcoxon(scores_with[scorer], baseline)

    lengths_without = _lengths(answered, answers["without"])
    lengths_with = _lengths(answered, answers["with"])

    return PolicyDifference(
        model=name,
        difference=accuracy and accuracy.difference,
        interval=accuracy and accuracy.interval,
        gained=accuracy and accuracy.gained,
        lost=accuracy and accuracy.lost,
        p=accuracy and accuracy.p,
        p_scenario=accuracy and accuracy.p_scenario,
        scores=score_tests,
        new_tokens=wilcoxon(lengths_with, lengths_without),
    )


def _accuracies(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    config: EvaluateConfig,
    seed: int,
) -> Difference | None:
    """Test a model's accuracy on the labelled questions; None where there are none."""
    has_label = labelled(questions)
    if not has_label:
        return None

    correct = {}
    for side, of_side in answers.items():
        # In the order of the ids, which `policy_summary` has given the questions, too.
        matched = match_labelled(questions, of_side)
        correct[side] = np.array([answer.decision is question.gold for question, answer in matched])

    scenarios = np.array([scenario_of(question) for question in has_label], str)
    # `groups_of` lists all questions first; the policy is tested on no smaller group.
    everything = groups_of(has_label)[:1]
    [row] = accuracy_rows(everything, correct, scenarios, (("with", "without"),), config, seed)

    return row.comparisons[0]


def _scores(questions: Sequence[Question], side: Side, name: str) -> dict[str, np.ndarray]:
    """Collect a model's scores by scorer, in the order of the questions; {} without questions."""
    score_of: dict[str, dict[str, float]] = defaultdict(dict)
    for score in side.scores:
        if score.model == name:
            score_of[score.scorer][score.question_id] = score.value

    # Callers take means, and that of no score would be nan, which no summary may hold.
    if not questions:
        return {}

    scores = {}
    for scorer, by_id in score_of.items():
        scores[scorer] = np.array([by_id[question.id] for question in questions], float)

    return scores


def _lengths(questions: Sequence[Question], answers: Sequence[Generation]) -> np.ndarray:
    matched = match_answers(questions, answers)
    return np.array([answer.new_tokens for _, answer in matched], float)
