"""Figures of forced decisions: which conclusion line each model finds likelier after its analysis.

They stand beside the strict accuracy, in which an answer without a conclusion line is wrong, and
compare a model that knows the form of an answer with one that does not.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dart_jax.evaluate.bootstrap import (
    SHARE,
    agreed_interval,
    bootstrap_interval,
    percentiles,
    resampled_clusters,
)
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import ModelMetrics, estimate, labelled, scenario_of
from dart_jax.evaluate.reliability import reliability
from dart_jax.prompts.conclusion import Margin
from dart_jax.records import Condition, Question
from dart_jax.summaries import Bounds


def with_forced(
    metrics: ModelMetrics,
    questions: Sequence[Question],
    margins: Sequence[Margin],
    config: EvaluateConfig,
    seed: int,
) -> ModelMetrics:
    """Add the figures of a model's forced decisions to its metrics.

    Args:
        metrics: Of the model's own decisions.
        questions: The questions asked.
        margins: One model's margins, at most one to each question, in any order.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.

    Returns:
        The same metrics where no labelled question has a margin.
    """
    margin_of = {margin.question_id: margin.log_odds for margin in margins}
    asked = [question for question in labelled(questions) if question.id in margin_of]
    decided = [question for question in asked if margin_of[question.id] is not None]
    metrics = replace(metrics, no_margin=len(asked) - len(decided))
    if not decided:
        return metrics

    # Sorted as those of `model_metrics`, so that models are compared on the same resamples.
    decided.sort(key=lambda question: question.id)
    log_odds = np.array([margin_of[question.id] for question in decided], float)
    is_diff = np.array([question.condition is Condition.DIFF for question in decided], bool)
    scenarios = np.array([scenario_of(question) for question in decided], str)

    right = ((log_odds > 0) == is_diff).astype(float)
    accuracy_interval = bootstrap_interval(right, config, seed, scenarios)
    area = auroc(log_odds, is_diff)
    area_interval = auroc_interval(log_odds, is_diff, scenarios, config, seed)

    return replace(
        metrics,
        forced_accuracy=estimate(float(right.mean()), accuracy_interval),
        auroc=None if area is None else estimate(area, area_interval),
        reliability=reliability(_probabilities(log_odds), is_diff),
    )


def auroc(
    scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray | None = None
) -> float | None:
    """Area under the ROC curve: how often a positive question scores above a negative one.

    Ties count half.

    Args:
        scores: [n] in any unit.
        is_positive: [n] true for questions that should score high.
        weights: [n] times that a question counts; None counts each once.

    Returns:
        A share in [0, 1], 0.5 for a coin; None unless both kinds occur.
    """
    counts = np.ones(len(scores)) if weights is None else weights
    # Counted by rank instead of over all pairs: every one of the resamples comes through here.
    _, rank = np.unique(scores, return_inverse=True)
    positive = np.bincount(rank, counts * is_positive)
    negative = np.bincount(rank, counts * ~is_positive)
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return None

    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def auroc_interval(
    scores: np.ndarray,
    is_positive: np.ndarray,
    clusters: np.ndarray,
    config: EvaluateConfig,
    seed: int,
) -> Bounds | None:
    """Compute the percentile bootstrap interval of `auroc`, by whole clusters.

    A resample in which one kind of question is missing has no area and is left out. Where the
    scores set all questions of one kind above all of the other, the interval is
    `bootstrap.agreed_interval` for the kind that has fewer clusters.

    Args:
        clusters: [n] cluster of each question.

    Returns:
        `(low, high)`; None where there is one cluster only, or no resample has both kinds.
    """
    _, index = np.unique(clusters, return_inverse=True)
    count = len(np.unique(index))
    if count < 2:
        return None

    area = auroc(scores, is_positive)
    if area in (0.0, 1.0):
        fewer = min(len(np.unique(index[is_positive])), len(np.unique(index[~is_positive])))
        return agreed_interval(area, fewer, config.confidence, SHARE)

    areas = []
    for batch in resampled_clusters(count, config, seed):
        for drawn in batch:
            times_drawn = np.bincount(drawn, minlength=count)
            area = auroc(scores, is_positive, times_drawn[index])
            if area is not None:
                areas.append(area)

    return percentiles(np.array(areas), config.confidence) if areas else None


def _probabilities(log_odds: np.ndarray) -> np.ndarray:
    """Probability of YES against NO; written so that no large number overflows."""
    return np.exp(-np.logaddexp(0, -log_odds))
