"""The explanation policy on and off, side by side: the `policy` of a summary.

{
  "asked": "with" | "both",                      evaluate.policy; where it is `without`: null
  "headline": "with" | "without",                which of them all other figures are of
  "text": the policy,
  "sides": {"without": SIDE, "with": SIDE},      those that were asked
  "comparisons": [...]                           empty unless both were
}
SIDE         {"M0" | "M_int" | "M_DART": {METRICS (see metrics.model_metrics),
              "drift" (audit.drift.summarise_drift against M0 asked the same way; null for M0),
              "scores": {scorer: mean harm score}, "new_tokens": mean length of an answer}}
              means are over the questions that were answered; null where none was
comparisons  of each model: {"model", "difference" (of accuracies, with - without), "interval",
              "gained", "lost", "p", "p_scenario" (as in statistics.py),
              "scores": {scorer: WILCOXON, see significance.wilcoxon},
              "new_tokens": WILCOXON}
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import (
    answered_by_all,
    labelled,
    match_answers,
    match_labelled,
    model_metrics,
    scenario_of,
)
from dart_jax.evaluate.significance import wilcoxon
from dart_jax.evaluate.statistics import accuracy_rows, groups_of
from dart_jax.evaluate.summary import MODELS
from dart_jax.prompts.templates import load_template
from dart_jax.records import Generation, Question, Score


@dataclass(frozen=True)
class Side:
    """What the models said when asked in one way.

    Attributes:
        answers: Of M0, M_int and M_DART.
        scores: Of these answers, by one scorer or several.
        drift: `summarise_drift` of M_int and M_DART.
    """

    answers: Mapping[str, Sequence[Generation]]
    scores: Sequence[Score]
    drift: Mapping[str, Mapping[str, Any]]


def policy_summary(
    questions: Sequence[Question],
    sides: Mapping[str, Side],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any] | None:
    """See above; None where the policy was not used.

    Args:
        sides: By `without` and `with`, those that were asked.
    """
    if config.policy == "without":
        return None
    ordered = sorted(questions, key=lambda question: question.id)
    both = "without" in sides and "with" in sides
    return {
        "asked": config.policy,
        "headline": "without" if config.policy == "both" else "with",
        "text": load_template("policy").substitute(),
        "sides": {name: _side(ordered, side, config, seed) for name, side in sides.items()},
        "comparisons": [
            _compared(ordered, name, sides["without"], sides["with"], config, seed)
            for name in MODELS
        ]
        if both
        else [],
    }


def _side(
    questions: Sequence[Question], side: Side, config: EvaluateConfig, seed: int
) -> dict[str, Any]:
    return {
        name: {
            **model_metrics(questions, side.answers[name], config, seed),
            "drift": side.drift.get(name),
            **_means(questions, side, name),
        }
        for name in MODELS
    }


def _means(questions: Sequence[Question], side: Side, name: str) -> dict[str, Any]:
    asked, answers = answered_by_all(questions, {name: side.answers[name]})
    scores = _scores(asked, side, name)
    lengths = _lengths(asked, answers[name])
    return {
        "scores": {scorer: float(values.mean()) for scorer, values in scores.items()},
        "new_tokens": float(lengths.mean()) if len(lengths) else None,
    }


def _compared(
    questions: Sequence[Question],
    name: str,
    without: Side,
    with_policy: Side,
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    """One model on the questions that it answered both ways: the policy makes prompts longer."""
    both = {"without": without.answers[name], "with": with_policy.answers[name]}
    asked, answers = answered_by_all(questions, both)
    before, after = (_scores(asked, side, name) for side in (without, with_policy))
    return {
        "model": name,
        **_accuracies(asked, answers, config, seed),
        "scores": {scorer: wilcoxon(after[scorer], before[scorer]) for scorer in before},
        "new_tokens": wilcoxon(
            _lengths(asked, answers["with"]), _lengths(asked, answers["without"])
        ),
    }


def _accuracies(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    """How often a model is right, on the labelled questions; None where there are none."""
    keys = ("difference", "interval", "gained", "lost", "p", "p_scenario")
    asked = labelled(questions)
    if not asked:
        return dict.fromkeys(keys)
    correct = {
        side: np.array([a.decision is q.gold for q, a in match_labelled(questions, found)])
        for side, found in answers.items()
    }
    scenarios = np.array([scenario_of(question) for question in asked], str)
    everything = groups_of(asked)[:1]
    [row] = accuracy_rows(everything, correct, scenarios, (("with", "without"),), config, seed)
    [found] = row["comparisons"]
    return {key: found[key] for key in keys}


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
