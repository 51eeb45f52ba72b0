"""Drift on test questions as several evaluators see it, and how far each agrees with the audit.

The audit picked the cases that the repair trained on, so that less drift by the audit may mean an
answer that the audit likes better. Evaluators that took no part tell the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.drift import severity_of_delta
from dart_jax.audit.guard_service import OpenChat
from dart_jax.audit.scorer_protocol import AnyScorer
from dart_jax.audit.scorers import make_scorers
from dart_jax.audit.screen import Pair, listed
from dart_jax.evaluate.bootstrap import percentiles, resampled_clusters, unseen_share
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.drift_change import DriftChange, Drifted, audited_drift, drift_change
from dart_jax.evaluate.metrics import scenario_of
from dart_jax.evaluate.models import AUDITED
from dart_jax.records import JudgeFailure, Outcome, Question, Score, Uncertain
from dart_jax.summaries import Bounds, Estimate

AUDIT = "audit"


@dataclass(frozen=True)
class WithAudit:
    """The agreement of an evaluator and the audit on one model's pairs.

    Attributes:
        pairs: Those on which both reached a verdict.
        both, audit_only, evaluator_only: Of these, pairs that drift to both, or to one alone.
        kappa: Cohen's kappa, with its interval over whole scenarios; None where it is not defined:
            without a pair, or where both give all pairs one and the same label.
    """

    pairs: int
    both: int
    audit_only: int
    evaluator_only: int
    kappa: Estimate


@dataclass(frozen=True)
class Undecided:
    """Pairs without a verdict: the judge's two orders disagree, or it gave no valid answer."""

    uncertain: int
    failed: int


@dataclass(frozen=True)
class DriftBy:
    """Drift of M_int and M_DART by one evaluator.

    Attributes:
        by: `audit`, or the evaluator's name.
        kind: A judge sees every pair, without a screen; a scorer decides by the rise of its score.
        same_as: Settings that name the same model for the audit or the repair, such as `judge`:
            where there are any, the evaluator is not independent.
        undecided: By model.
        change: Over all pairs with a verdict.
        coherent: Over those of which neither answer is incoherent.
        agreement: With the audit, by model; empty for the audit itself.
    """

    by: str
    kind: Literal["audit", "judge", "scorer"]
    same_as: list[str]
    undecided: dict[str, Undecided]
    change: DriftChange
    coherent: DriftChange
    agreement: dict[str, WithAudit] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """One evaluator's word on the pairs: whether they drift, and which it left undecided."""

    by: str
    kind: Literal["audit", "judge", "scorer"]
    same_as: list[str]
    drifted: dict[str, Drifted]
    undecided: dict[str, Undecided]


def further_scorers(
    settings: AuditConfig | None, open_guard: OpenChat | None = None
) -> tuple[AnyScorer, ...]:
    """Load the scorers of `evaluate.scorers`; arguments and errors are those of `make_scorers`.

    Args:
        settings: `DartConfig.further_scorers`.
    """
    if settings is None:
        return ()
    try:
        return make_scorers(settings, open_guard)
    except ValueError as error:
        # The audit's loader names the audit's setting.
        raise ValueError(str(error).replace("audit.scorer", "evaluate.scorer")) from error


def drift_by(
    evaluator: Evaluator,
    audit: Evaluator,
    coherent: Mapping[str, set[str]],
    questions: Sequence[Question],
    config: EvaluateConfig,
    seed: int,
) -> DriftBy:
    """Measure the drift that an evaluator sees, and its agreement with the audit.

    Args:
        coherent: Ids of the pairs without an incoherent answer, by model.
        questions: The test questions.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.
    """
    coherent_drift, agreement = {}, {}
    for name in AUDITED:
        of_model = evaluator.drifted[name]
        coherent_drift[name] = {id: said for id, said in of_model.items() if id in coherent[name]}
        if evaluator.kind != AUDIT:
            agreement[name] = with_audit(questions, of_model, audit.drifted[name], config, seed)

    return DriftBy(
        by=evaluator.by,
        kind=evaluator.kind,
        same_as=evaluator.same_as,
        undecided=evaluator.undecided,
        change=drift_change(questions, evaluator.drifted, config, seed),
        coherent=drift_change(questions, coherent_drift, config, seed),
        agreement=agreement,
    )


def drift_of_outcomes(
    pairs: Mapping[str, Sequence[Pair]], outcomes: Mapping[str, Sequence[Outcome]]
) -> tuple[dict[str, Drifted], dict[str, Undecided]]:
    """Read drift and undecided pairs, by model, from verdicts; no outcome means not screened."""
    drifted, undecided = {}, {}
    for name in AUDITED:
        drifted[name] = audited_drift(pairs[name], outcomes[name])
        undecided[name] = Undecided(
            uncertain=sum(isinstance(outcome, Uncertain) for outcome in outcomes[name]),
            failed=sum(isinstance(outcome, JudgeFailure) for outcome in outcomes[name]),
        )
    return drifted, undecided


def check_judged(pairs: Sequence[Pair], outcomes: Sequence[Outcome]) -> None:
    """Raise ValueError for a pair that was not judged; it would count as harmless."""
    judged = {outcome.question_id for outcome in outcomes}
    missing = {pair.question_id for pair in pairs} - judged
    if missing:
        raise ValueError(f"never judged by evaluate.judge: {listed(missing)}")


def drift_of_scores(
    pairs: Sequence[Pair], scores: Sequence[Score], bins: Sequence[float]
) -> Drifted:
    """Tell drift by one scorer's rise: to the first of the severity bins, or beyond it.

    Args:
        scores: Of M0's and the candidate's answers, by this scorer alone.
    """
    value_of = {(score.model, score.question_id): score.value for score in scores}
    drifted = {}
    for pair in pairs:
        before = value_of[pair.baseline.model, pair.question_id]
        after = value_of[pair.candidate.model, pair.question_id]
        drifted[pair.question_id] = severity_of_delta(after - before, bins) is not None
    return drifted


def with_audit(
    questions: Sequence[Question],
    evaluator: Drifted,
    audit: Drifted,
    config: EvaluateConfig,
    seed: int,
) -> WithAudit:
    """Measure the agreement of two evaluators on the pairs of one model that both decided."""
    # By id: the resamples do not depend on the order of the input.
    asked = sorted(questions, key=lambda question: question.id)
    shared = []
    for question in asked:
        if None not in (evaluator.get(question.id), audit.get(question.id)):
            shared.append(question)

    says = np.array([evaluator[question.id] for question in shared], bool)
    audit_says = np.array([audit[question.id] for question in shared], bool)
    clusters = np.array([scenario_of(question) for question in shared], str)
    # Both, audit alone, evaluator alone, neither: what kappa is made of, [4, clusters].
    _, index = np.unique(clusters, return_inverse=True)
    cells = (audit_says & says, audit_says & ~says, ~audit_says & says, ~audit_says & ~says)
    table = np.array([np.bincount(index, weights=cell) for cell in cells])

    totals = table.sum(axis=1)
    [value] = kappas(totals[:, None])
    return WithAudit(
        pairs=len(shared),
        both=int(totals[0]),
        audit_only=int(totals[1]),
        evaluator_only=int(totals[2]),
        kappa=Estimate(None)
        if np.isnan(value)
        else Estimate(float(value), *(_kappa_interval(table, config, seed) or ())),
    )


def kappas(tables: np.ndarray) -> np.ndarray:
    """Compute Cohen's kappa of 2 x 2 tables; nan where it is not defined.

    Args:
        tables: [4, n] counts of both, first alone, second alone, neither.

    Reference: Cohen (1960), Educational and Psychological Measurement 20, 37-46.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        both, first_only, second_only, neither = tables / tables.sum(axis=0)
        first, second = both + first_only, both + second_only
        by_chance = first * second + (1 - first) * (1 - second)
        found = (both + neither - by_chance) / (1 - by_chance)
    # Rounding may leave 1 - by_chance a little off 0 where both give one label to all.
    return np.where(np.isclose(by_chance, 1), np.nan, found)


def _kappa_interval(table: np.ndarray, config: EvaluateConfig, seed: int) -> Bounds | None:
    """Compute the percentile bootstrap interval of kappa, by whole clusters.

    Where no pair is disputed every resample would have kappa 1. The share of disputed pairs that
    were not seen is then at most `unseen_share`, and kappa at least what that leaves.
    """
    count = table.shape[1]
    if count < 2:
        return None

    both, first_only, second_only, neither = table.sum(axis=1)
    if not first_only and not second_only:
        share = both / (both + neither)
        by_chance = share**2 + (1 - share) ** 2
        lowest = 1 - unseen_share(count, config.confidence) / (1 - by_chance)
        return max(-1.0, float(lowest)), 1.0

    found = []
    for drawn in resampled_clusters(count, config, seed):
        found.append(kappas(table[:, drawn].sum(axis=2)))
    values = np.concatenate(found)
    defined = values[~np.isnan(values)]
    return percentiles(defined, config.confidence) if len(defined) else None
