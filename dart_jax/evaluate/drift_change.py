"""The change of drift from M_int to M_DART, paired by question: interval, test and fates.

before (M_int)     drift      drift        -      -
after (M_DART)       -        drift      drift    -
                 repaired   persisting    new
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dart_jax.audit.screen import Pair
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import scenario_of
from dart_jax.evaluate.ratios import ratio_interval
from dart_jax.evaluate.significance import mcnemar
from dart_jax.records import Outcome, Question, Verdict

Drifted = Mapping[str, bool | None]
"""Whether an answer drifted, by question id; None where the audit reached no verdict."""


@dataclass(frozen=True)
class Reduction:
    """The share of M_int's drift that M_DART no longer shows.

    Attributes:
        value: 1 - drifted after / drifted before: at most 1, negative where drift grew; None where
            there was none before.
        low, high: Bootstrap interval over whole scenarios; None where nothing can be resampled.
        p: McNemar's exact test of drift before against after, with the question as its unit; None
            without a question on which both audits reached a verdict.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Changes:
    """Number of questions by what became of their drift in the repair.

    Attributes:
        repaired, persisting, new: Drift before only, before and after, after only.
        undecided: Questions on which one audit or both reached no verdict; in none of the others.
    """

    repaired: int
    persisting: int
    new: int
    undecided: int


@dataclass(frozen=True)
class DriftRate:
    """The share of the pairs with a verdict that drift, a pair that was not screened included.

    Attributes:
        pairs: Number of pairs with a verdict.
        value, low, high: The share and its bootstrap interval over whole scenarios.
        effective_pairs: Number of independent pairs that would vary as much as the scenarios do.
    """

    pairs: int
    value: float | None
    low: float | None
    high: float | None
    effective_pairs: float


@dataclass(frozen=True)
class DriftChange:
    """Everything that is said of a change in drift; `rates` by model."""

    reduction: Reduction
    changes: Changes
    rates: dict[str, DriftRate]


def audited_drift(pairs: Iterable[Pair], outcomes: Iterable[Outcome]) -> Drifted:
    """Say of each audited pair whether it drifted; one that was not screened did not."""
    outcome_of = {outcome.question_id: outcome for outcome in outcomes}
    drifted: dict[str, bool | None] = {}
    for pair in pairs:
        outcome = outcome_of.get(pair.question_id)
        if outcome is None:
            drifted[pair.question_id] = False
        else:
            drifted[pair.question_id] = outcome.drift if isinstance(outcome, Verdict) else None
    return drifted


def drift_change(
    questions: Sequence[Question],
    drifted: Mapping[str, Drifted],
    config: EvaluateConfig,
    seed: int,
) -> DriftChange:
    """Compare the drift of M_int and M_DART on the questions that both answered.

    Args:
        questions: The questions that were asked; scenarios are theirs.
        drifted: By model, M_int and M_DART; others are left out.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.
    """
    before, after = drifted["M_int"], drifted["M_DART"]
    # By id: the resamples do not depend on the order of the input.
    asked = sorted(questions, key=lambda question: question.id)
    paired = [question for question in asked if question.id in before and question.id in after]

    decided, was, is_now = [], [], []
    for question in paired:
        both = (before[question.id], after[question.id])
        decided.append(None not in both)
        was.append(both[0] is True)
        is_now.append(both[1] is True)

    use = np.array(decided, bool)
    was_drift, is_drift = np.array(was, bool), np.array(is_now, bool)
    clusters = np.array([scenario_of(question) for question in paired], str)
    # The share that is left is resampled, since it is a ratio of counts; the reduction is 1 less
    # it, which changes the places of the bounds.
    left = ratio_interval(is_drift, was_drift, clusters, config, seed)
    low, high = (None, None) if left is None else (1 - left[1], 1 - left[0])

    return DriftChange(
        reduction=Reduction(
            # As `audit.drift.reduction` counts: a pair without a verdict is no confirmed drift.
            value=float(1 - is_drift.sum() / was_drift.sum()) if was_drift.any() else None,
            low=low,
            high=high,
            p=mcnemar(is_drift[use], was_drift[use]).p if use.any() else None,
        ),
        changes=Changes(
            repaired=int((was_drift & ~is_drift & use).sum()),
            persisting=int((was_drift & is_drift & use).sum()),
            new=int((~was_drift & is_drift & use).sum()),
            undecided=int((~use).sum()),
        ),
        # Each over all of its own pairs, whatever the other audit decided.
        rates={
            "M_int": drift_rate(asked, before, config, seed),
            "M_DART": drift_rate(asked, after, config, seed),
        },
    )


def drift_rate(
    questions: Sequence[Question], drifted: Drifted, config: EvaluateConfig, seed: int
) -> DriftRate:
    """Compute the share of drift among the pairs with a verdict, in the order of the questions."""
    decided = [question for question in questions if drifted.get(question.id) is not None]
    values = np.array([drifted[question.id] for question in decided], float)
    clusters = np.array([scenario_of(question) for question in decided], str)
    bounds = ratio_interval(values, np.ones(len(values)), clusters, config, seed)
    low, high = bounds or (None, None)

    return DriftRate(
        pairs=len(decided),
        value=float(values.mean()) if len(values) else None,
        low=low,
        high=high,
        effective_pairs=_effective_size(values, clusters),
    )


def _effective_size(values: np.ndarray, clusters: np.ndarray) -> float:
    """Compute how many independent values would give the mean the variance of the clusters'.

    Where all values are the same nothing varies, and each cluster counts once.

    Reference: Korn and Graubard (1998), Survey Methodology 24, 193-201.
    """
    names, index = np.unique(clusters, return_inverse=True)
    count, mean = len(names), values.mean() if len(values) else 0.0
    residuals = np.bincount(index, weights=values - mean)
    if count < 2 or np.allclose(residuals, 0):
        return float(count)

    variance = count / (count - 1) * (residuals**2).sum() / len(values) ** 2
    # Answers within a scenario may differ more than chance has it; the variance then promises
    # more pairs than there are.
    return float(min(mean * (1 - mean) / variance, len(values)))
