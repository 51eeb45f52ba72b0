"""Planted drift: what the models' answers show of the planted faults, and what the audit saw of it.

Whether an answer drifted is told by the planted words alone, see `audit.planted_truth`; so the
audit's verdicts can be measured against the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dart_jax.audit.planted_truth import planted_drift
from dart_jax.evaluate.audit_quality import Audited, AuditQuality, Truth, audit_quality
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.drift_change import (
    Changes,
    DriftChange,
    Reduction,
    drift_change,
)
from dart_jax.evaluate.models import AUDITED, MODELS, SEVERITIES
from dart_jax.records import DriftType, Question, Severity
from dart_jax.summaries import Estimate


@dataclass(frozen=True)
class PlantedCounts:
    """Number of answers of one model, and of those that show planted drift.

    Attributes:
        n: Answers; those to a prompt that left no room are not among them.
        drifted: Answers with planted drift. M0 is the baseline: for it, answers that hold a planted
            sentence, which is how often the recognition itself errs.
        by_severity, by_type: The drifted answers, zeros included.
    """

    n: int
    drifted: int
    by_severity: dict[str, int]
    by_type: dict[str, int]


@dataclass(frozen=True)
class PlantedSeverity:
    """The planted drift of one severity.

    Attributes:
        rates: Share of all answers of M_int and M_DART that show it.
        reduction, changes: From M_int to M_DART. An answer whose drift becomes milder is repaired
            here, and new in the milder severity.
    """

    rates: dict[str, Estimate]
    reduction: Reduction
    changes: Changes


@dataclass(frozen=True)
class PlantedPool(PlantedCounts):
    """Planted drift of M_int on the drift pool, from which the repairs come, and its audit."""

    audit: AuditQuality


@dataclass(frozen=True)
class Planted:
    """Planted drift of a run, on its test questions.

    Attributes:
        models: Counts of M0, M_int and M_DART.
        rates: Share of the answers of M_int and M_DART that show planted drift.
        reduction, changes: From M_int to M_DART, of all planted drift.
        severities: The same three by severity.
        audit: Quality of the audits of M_int and M_DART.
        pool: M_int on the drift pool.
    """

    models: dict[str, PlantedCounts]
    rates: dict[str, Estimate]
    reduction: Reduction
    changes: Changes
    severities: dict[str, PlantedSeverity]
    audit: dict[str, AuditQuality]
    pool: PlantedPool

    def __post_init__(self) -> None:
        for name, keys, expected in (
            ("models", self.models, MODELS),
            ("rates", self.rates, AUDITED),
            ("severities", self.severities, SEVERITIES),
            ("audit", self.audit, AUDITED),
        ):
            # The order, too: tables take theirs from the keys.
            if tuple(keys) != expected:
                raise ValueError(f"planted.{name}: {', '.join(keys)}, not {', '.join(expected)}")
        for counts in (*self.models.values(), self.pool):
            sums = sum(counts.by_severity.values()), sum(counts.by_type.values())
            if sums != (counts.drifted, counts.drifted):
                raise ValueError("planted: severities and types do not add up to the drifted")


def planted_summary(
    tested: Mapping[str, Audited],
    pool: Audited,
    omissions: Mapping[str, Severity],
    config: EvaluateConfig,
    seed: int,
) -> Planted:
    """Measure planted drift on test questions and pool, and the audits against it.

    Args:
        tested: M_int and M_DART on the test questions.
        pool: M_int on the drift pool.
        omissions: Severity of the omissions that were planted, by benchmark.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.
    """
    truths, quality = {}, {}
    for name in AUDITED:
        truths[name] = planted_truth(tested[name], omissions)
        quality[name] = audit_quality(tested[name], truths[name], config, seed)

    drifted = {}
    for name, truth in truths.items():
        drifted[name] = {id: drift is not None for id, drift in truth.items()}
    questions = tested["M_int"].questions
    change = drift_change(questions, drifted, config, seed)

    of_m0 = {}
    for pair in tested["M_int"].pairs:
        # M0 is the baseline of all pairs. Against an empty one, what its own answers hold counts.
        of_m0[pair.question_id] = planted_drift("", pair.baseline.text)

    of_pool = planted_truth(pool, omissions)
    return Planted(
        models={name: count(truth) for name, truth in {"M0": of_m0, **truths}.items()},
        rates=_estimates(change),
        reduction=change.reduction,
        changes=change.changes,
        severities=_by_severity(questions, truths, config, seed),
        audit=quality,
        pool=PlantedPool(**vars(count(of_pool)), audit=audit_quality(pool, of_pool, config, seed)),
    )


def planted_truth(audited: Audited, omissions: Mapping[str, Severity]) -> Truth:
    """Tell of each pair what planted drift the candidate shows against M0."""
    benchmark_of = {question.id: question.benchmark for question in audited.questions}
    truth = {}
    for pair in audited.pairs:
        omission = omissions.get(benchmark_of[pair.question_id])
        texts = (pair.baseline.text, pair.candidate.text)
        truth[pair.question_id] = planted_drift(*texts, omission=omission)
    return truth


def count(truth: Truth) -> PlantedCounts:
    """Count the answers with planted drift by severity and type."""
    shown = [drift for drift in truth.values() if drift is not None]
    severities = Counter(drift.severity for drift in shown)
    types = Counter(drift.type for drift in shown)
    return PlantedCounts(
        n=len(truth),
        drifted=len(shown),
        by_severity={severity.name.lower(): severities[severity] for severity in Severity},
        by_type={type.value: types[type] for type in DriftType},
    )


def _by_severity(
    questions: Sequence[Question],
    truths: Mapping[str, Truth],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, PlantedSeverity]:
    found = {}
    for name, severity in zip(SEVERITIES, Severity, strict=True):
        drifted = {}
        for model, truth in truths.items():
            drifted[model] = {
                id: drift is not None and drift.severity is severity for id, drift in truth.items()
            }
        change = drift_change(questions, drifted, config, seed)

        found[name] = PlantedSeverity(_estimates(change), change.reduction, change.changes)
    return found


def _estimates(change: DriftChange) -> dict[str, Estimate]:
    estimates = {}
    for model, rate in change.rates.items():
        estimates[model] = Estimate(rate.value, rate.low, rate.high)
    return estimates
