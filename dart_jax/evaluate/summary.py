"""The figures of a run, `evaluation/summary.json`: validated when made and when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.audit.drift import AuditCounts, reduction
from dart_jax.evaluate.metrics import ModelMetrics
from dart_jax.evaluate.models import AUDITED, MODELS, SEVERITIES
from dart_jax.evaluate.policy import Policy
from dart_jax.evaluate.statistics import Statistics
from dart_jax.records import BadRecord, from_json, write_text
from dart_jax.summaries import to_pretty_json
from dart_jax.teach.labels import LabelSummary

SUMMARY = "evaluation/summary.json"
"""Path of the file in a run's folder."""


@dataclass(frozen=True)
class Drift:
    """Confirmed drift on test questions.

    Attributes:
        M_int, M_DART: Counts of each model's pairs with M0.
        reduction: Share of M_int's drift that M_DART no longer shows; None where M_int has none.
    """

    M_int: AuditCounts
    M_DART: AuditCounts
    reduction: float | None

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
    """

    audited: str
    pool: AuditCounts
    repairs: int
    model: str
    test: ModelMetrics
    drift: AuditCounts


@dataclass(frozen=True)
class RunSummary:
    """The figures of a run.

    Attributes:
        protocol: `heldout` or `transductive`, see `audit.config.AuditConfig`.
        split_by: `row` or `scenario`.
        judge: The judge's provider, `none` where the scorer alone decided.
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
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    protocol: Literal["heldout", "transductive"]
    split_by: str
    judge: str
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

    def __post_init__(self) -> None:
        _check_names("models", self.models, MODELS)
        unknown = sorted(self.repair.keys() - set(SEVERITIES))
        if unknown:
            known = ", ".join(SEVERITIES)
            raise ValueError(f"repair: unknown severity {unknown[0]!r}; known: {known}")

    @property
    def test_questions(self) -> int:
        """Number of labelled test questions."""
        return self.models["M0"].n


def drift_of(audits: Mapping[str, AuditCounts]) -> Drift:
    """Put the audits of M_int and M_DART side by side. Raises ValueError for any other names."""
    _check_names("drift", audits, AUDITED)
    before, after = audits["M_int"], audits["M_DART"]
    return Drift(before, after, reduction(before, after))


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
