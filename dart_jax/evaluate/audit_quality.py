"""Precision, recall and F1 of an audit against planted drift, whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dart_jax.audit.planted_truth import PlantedDrift
from dart_jax.audit.screen import Pair
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.drift_change import audited_drift
from dart_jax.evaluate.metrics import scenario_of
from dart_jax.evaluate.ratios import ratio_interval
from dart_jax.records import Outcome, Question, Severity
from dart_jax.summaries import Bounds

Truth = Mapping[str, PlantedDrift | None]
"""The planted drift that each answer shows, by question id."""


@dataclass(frozen=True)
class Audited:
    """The answers of one model that were audited against M0's.

    Attributes:
        questions: The questions asked; one that left no room for an answer makes no pair.
        pairs: M0's answer and the model's to each question.
        outcomes: Outcomes of the pairs that the audit decided.
    """

    questions: Sequence[Question]
    pairs: Sequence[Pair]
    outcomes: Sequence[Outcome]


@dataclass(frozen=True)
class SeverityRecall:
    """How much planted drift of one severity the audit found; None where there was none."""

    drifted: int
    found: int
    recall: float | None


@dataclass(frozen=True)
class QualityIntervals:
    """Bootstrap intervals over whole scenarios; None where there is nothing to resample."""

    precision: Bounds | None
    recall: Bounds | None
    f1: Bounds | None


@dataclass(frozen=True)
class AuditQuality:
    """The audit's verdicts against the truth, over all pairs.

    Attributes:
        found, missed, false: Pairs with planted drift that the audit confirmed, and did not; pairs
            without that it confirmed.
        undecided: Pairs without a verdict; the audit has not confirmed drift in them.
        precision, recall, f1: None where they have no case.
        by_severity: Recall by the severity that was planted.
    """

    pairs: int
    found: int
    missed: int
    false: int
    undecided: int
    precision: float | None
    recall: float | None
    f1: float | None
    intervals: QualityIntervals
    by_severity: dict[str, SeverityRecall]


def audit_quality(
    audited: Audited, truth: Truth, config: EvaluateConfig, seed: int
) -> AuditQuality:
    """Measure an audit's confirmed drift against the truth, over all of its pairs."""
    confirmed = audited_drift(audited.pairs, audited.outcomes)
    # By id: the resamples do not depend on the order of the input.
    asked = sorted(audited.questions, key=lambda question: question.id)
    paired = [question for question in asked if question.id in truth]
    clusters = np.array([scenario_of(question) for question in paired], str)

    is_drift = np.array([truth[question.id] is not None for question in paired], bool)
    # None, no verdict, confirms nothing: such a drift is missed, and no false alarm.
    said = np.array([confirmed[question.id] is True for question in paired], bool)
    # F1 is a ratio of sums, too, 2 found / (drift + said): one bootstrap serves all three.
    found, either = is_drift & said, is_drift.astype(int) + said

    def interval(parts: np.ndarray, wholes: np.ndarray) -> Bounds | None:
        return ratio_interval(parts, wholes, clusters, config, seed)

    return AuditQuality(
        pairs=len(paired),
        found=int(found.sum()),
        missed=int((is_drift & ~said).sum()),
        false=int((~is_drift & said).sum()),
        undecided=sum(confirmed[question.id] is None for question in paired),
        precision=_share(found, said),
        recall=_share(found, is_drift),
        f1=_share(2 * found, either),
        intervals=QualityIntervals(
            interval(found, said), interval(found, is_drift), interval(2 * found, either)
        ),
        by_severity=_recalls(truth, confirmed),
    )


def _share(parts: np.ndarray, wholes: np.ndarray) -> float | None:
    return float(parts.sum() / wholes.sum()) if wholes.any() else None


def _recalls(truth: Truth, confirmed: Mapping[str, bool | None]) -> dict[str, SeverityRecall]:
    recalls = {}
    for severity in Severity:
        ids = [id for id, drift in truth.items() if drift and drift.severity is severity]
        found = sum(confirmed[id] is True for id in ids)
        recall = found / len(ids) if ids else None
        recalls[severity.name.lower()] = SeverityRecall(len(ids), found, recall)
    return recalls
