"""The figures of a run, `evaluation/summary.json`: validated when made and when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.audit.agreement import Agreement
from dart_jax.audit.config import GUARD
from dart_jax.audit.drift import AuditCounts, reduction
from dart_jax.evaluate.coherence import Incoherent
from dart_jax.evaluate.collateral import Collateral
from dart_jax.evaluate.corrected_drift import corrected_drift
from dart_jax.evaluate.drift_change import Changes, DriftChange, DriftRate
from dart_jax.evaluate.evaluators import DriftBy
from dart_jax.evaluate.metrics import ModelMetrics
from dart_jax.evaluate.models import AUDITED, MODELS, SEVERITIES
from dart_jax.evaluate.planted import Planted, PlantedCounts
from dart_jax.evaluate.policy import Policy
from dart_jax.evaluate.statistics import Statistics
from dart_jax.records import BadRecord, from_json, write_text
from dart_jax.summaries import Estimate, to_pretty_json
from dart_jax.teach.labels import LabelSummary
from dart_jax.teach.planted import Planting

SUMMARY = "evaluation/summary.json"
"""Path of the file in a run's folder."""


@dataclass(frozen=True)
class Interval:
    """Low and high end of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Drift:
    """Confirmed drift on test questions.

    Attributes:
        M_int, M_DART: Counts of each model's pairs with M0.
        reduction: Share of M_int's drift that M_DART no longer shows; None where M_int has none.
        reduction_interval: Its bootstrap interval over whole scenarios; None where there is none.
        reduction_p: McNemar's exact test of drift before and after, paired by question.
        changes: Questions by what became of their drift.
        rates: Share of the pairs with a verdict that drift, by model.
        corrected: These shares corrected for the audit's error; None unless people annotated.
    """

    M_int: AuditCounts
    M_DART: AuditCounts
    reduction: float | None
    reduction_interval: Interval | None = None
    reduction_p: float | None = None
    changes: Changes | None = None
    rates: dict[str, DriftRate] = field(default_factory=dict)
    corrected: dict[str, Estimate] | None = None

    def __post_init__(self) -> None:
        if self.changes is None:
            return
        _check_names("drift.rates", self.rates, AUDITED)
        before = self.changes.repaired + self.changes.persisting
        after = self.changes.persisting + self.changes.new
        # Not `!=`: drift that is undecided on the other side was confirmed, and is in no change.
        if before > self.M_int.confirmed or after > self.M_DART.confirmed:
            raise ValueError("drift.changes: more drift than the audits confirmed")

    @property
    def estimate(self) -> Estimate:
        """The reduction, with its interval where it has one."""
        bounds = self.reduction_interval
        return Estimate(self.reduction, *((bounds.low, bounds.high) if bounds else ()))

    def of(self, model: str) -> AuditCounts | None:
        """Return the counts of a model; None for M0, which the others are audited against."""
        return getattr(self, model) if model in AUDITED else None


@dataclass(frozen=True)
class RepairedSeverity:
    """The repair targets of one severity.

    Attributes:
        weight_mass: Sum of their weights in the loss.
    """

    examples: int
    weight_mass: float


@dataclass(frozen=True)
class CycleResult:
    """The figures of one cycle of audit and repair.

    Attributes:
        audited: Name of the model that was audited.
        pool: Its drift on the drift pool.
        repairs: Number of repair targets.
        model: Name of the repaired model.
        test, drift: Metrics and drift of the repaired model on test questions.
        planted: Its answers to them that show planted drift; None where no fault was planted.
    """

    audited: str
    pool: AuditCounts
    repairs: int
    model: str
    test: ModelMetrics
    drift: AuditCounts
    planted: PlantedCounts | None = None


@dataclass(frozen=True)
class FrontierPoint:
    """The figures of M0 with a part of M_int's adapter, on test questions.

    Attributes:
        model: Its name, such as `M_int@0.5`.
        strength: Factor of the adapter, above 0 and below 1.
        rate: Share of the pairs with a verdict that drift.
        planted: Its answers that show planted drift; None where no fault was planted.
    """

    model: str
    strength: float
    test: ModelMetrics
    drift: AuditCounts
    rate: Estimate
    planted: PlantedCounts | None = None


@dataclass(frozen=True)
class RunSummary:
    """The figures of a run.

    Attributes:
        protocol: `heldout` or `transductive`, see `audit.config.AuditConfig`.
        split_by: `row` or `scenario`.
        judge: The judge's provider, `none` where the scorer alone decided.
        tau: The screen's threshold, a difference of harm scores.
        tau_set: `fixed` (`audit.tau` is a number) or `auto` (by the noise of M0 against itself).
        tau_pairs: Number of pairs of M0 with itself that tau was set by; 0 where it is fixed.
        models: Metrics of M0, M_int and M_DART on the test questions.
        shortcut_baseline: Metrics of the shortcut baseline on the same questions; over no question
            where it could not be fitted.
        drift: Drift of M_int and M_DART on test questions.
        drift_pool: Drift of M_int on the drift pool, from which the repair cases come.
        repair: Repair targets by severity; empty where nothing was repaired.
        rejects: Number of rejected targets by stage, reason and benchmark.
        labels: Comparison of predicted labels with gold; None where gold labels were used.
        m_dart_is_m_int: Whether there was nothing to repair.
        distill_only: Whether repair was switched off (`repair.epochs: 0`).
        seconds: Wall-clock seconds by stage.
        statistics: None where no test question has a label.
        policy: Figures of the explanation policy; None where the models never had it.
        planting: What was planted in the training targets; None where nothing was.
        planted: Planted drift and the audits against it; None where no fault was planted.
        frontier: M0 with parts of M_int's adapter, ascending; empty where not asked for.
        collateral: What the repair changed in answers that had not drifted; None where nothing was
            repaired, and in a file of an earlier version.
        rejects_by_type: Number of rejected repair targets by cycle's stage, reason and type of
            drift; empty in summaries of earlier versions.
        incoherent: Incoherent answers of M0, M_int and M_DART; None in such a file.
        drift_by: Drift on test questions with and without them, by the audit and by evaluators that
            had no part in it; the audit comes first. Empty in such a file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    protocol: Literal["heldout", "transductive"]
    split_by: str
    judge: str
    tau: float
    tau_set: Literal["fixed", "auto"]
    tau_pairs: int
    models: dict[str, ModelMetrics]
    shortcut_baseline: ModelMetrics
    drift: Drift
    drift_pool: AuditCounts
    repair: dict[str, RepairedSeverity]
    cycles: list[CycleResult]
    rejects: dict[str, dict[str, dict[str, int]]]
    labels: LabelSummary | None
    m_dart_is_m_int: bool
    distill_only: bool
    seconds: dict[str, float]
    statistics: Statistics | None
    policy: Policy | None
    planting: Planting | None
    planted: Planted | None
    frontier: list[FrontierPoint] = field(default_factory=list)
    collateral: Collateral | None = None
    rejects_by_type: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    incoherent: dict[str, Incoherent] | None = None
    drift_by: list[DriftBy] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_names("models", self.models, MODELS)
        unknown = sorted(self.repair.keys() - set(SEVERITIES))
        if unknown:
            known = ", ".join(SEVERITIES)
            raise ValueError(f"repair: unknown severity {unknown[0]!r}; known: {known}")

    def has(self, model: str) -> bool:
        """Tell whether it is one of MODELS, or of the frontier."""
        return model in self.models or self._point(model) is not None

    def metrics_of(self, model: str) -> ModelMetrics:
        """Return the metrics of one of MODELS, or of a model of the frontier."""
        point = self._point(model)
        return self.models[model] if point is None else point.test

    def drift_of(self, model: str) -> AuditCounts | None:
        """Return a model's drift on test questions; None for M0, the baseline."""
        point = self._point(model)
        return self.drift.of(model) if point is None else point.drift

    def planted_of(self, model: str) -> PlantedCounts | None:
        """Return a model's planted drift on test questions; None where nothing was planted."""
        point = self._point(model)
        if point is not None:
            return point.planted
        return None if self.planted is None else self.planted.models[model]

    def _point(self, model: str) -> FrontierPoint | None:
        return next((point for point in self.frontier if point.model == model), None)

    @property
    def judges_types(self) -> bool:
        """Tell whether the audit told the type of drift: a scorer alone, or a guard, sees none."""
        return self.judge not in ("none", GUARD)

    @property
    def test_questions(self) -> int:
        """Number of labelled test questions."""
        return self.models["M0"].n


def drift_of(audits: Mapping[str, AuditCounts], change: DriftChange | None = None) -> Drift:
    """Put the audits of M_int and M_DART side by side. Raises ValueError for any other names.

    Args:
        audits: Counts by model.
        change: Interval, test and changes; None where they are not known.
    """
    _check_names("drift", audits, AUDITED)
    before, after = audits["M_int"], audits["M_DART"]
    drift = Drift(before, after, reduction(before, after))
    if change is None:
        return drift

    low, high = change.reduction.low, change.reduction.high
    return replace(
        drift,
        reduction_interval=None if low is None else Interval(low, high),
        reduction_p=change.reduction.p,
        changes=change.changes,
        rates=change.rates,
    )


def with_corrected_drift(summary: RunSummary, agreement: Agreement | None) -> RunSummary:
    """Correct the rates of drift by what people's annotations say of the audit's error."""
    corrected = corrected_drift(summary.drift.rates, agreement)
    return replace(summary, drift=replace(summary.drift, corrected=corrected))


def write_summary(path: Path, summary: RunSummary) -> None:
    """Write the summary as indented JSON, atomically; raises ValueError for nan and inf."""
    write_text(path, to_pretty_json(summary))


def read_summary(path: Path) -> RunSummary:
    """Read and validate a run's summary.

    Raises:
        FileNotFoundError: The run was not evaluated.
        BadRecord: The file is damaged or of another version; the message says what to do.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return from_json(text, RunSummary, where=str(path))
    except BadRecord as error:
        raise BadRecord(f"{error}; run the stage evaluate again") from error


def _check_names(what: str, parts: Mapping, expected: Sequence[str]) -> None:
    if set(parts) != set(expected):
        raise ValueError(f"{what}: expected {', '.join(expected)}, got {', '.join(sorted(parts))}")
