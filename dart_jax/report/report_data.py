"""Hold what a run's report shows beside its numbers, `evaluation/report_data.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dart_jax.records import DriftType, Severity, Uncertain

REPORT_DATA = "evaluation/report_data.json"


@dataclass(frozen=True)
class DriftExample:
    """Hold one confirmed drift on a test question, with what the three models wrote.

    Attributes:
        question_id, question: The question and its text.
        type, severity: The judge's verdict on M_int.
        texts: Generation by model name: M0, M_int, M_DART.
    """

    question_id: str
    question: str
    type: DriftType
    severity: Severity
    texts: Mapping[str, str]


@dataclass(frozen=True)
class ReportData:
    """Hold settings, curves and examples of a run.

    Attributes:
        config: The resolved configuration, nested by section.
        confidence: Coverage of the intervals in the summary, in (0, 1).
        deltas: Score differences of the test pairs, by model name (M_int, M_DART).
        losses: `(step, loss)` by stage (distill, repair).
        uncertain: Pairs on which the judge's two orders disagree, by audit (`M_int, test`).
        examples: Drift cases, the severest first.
        above_tau: Test pairs whose delta exceeds tau, by model name and scorer.
        validation: `(epochs, loss)` of the distill targets that were held out.
    """

    config: Mapping[str, Any]
    confidence: float
    deltas: Mapping[str, Sequence[float]]
    losses: Mapping[str, Sequence[tuple[int, float]]]
    uncertain: Mapping[str, Sequence[Uncertain]] = field(default_factory=dict)
    examples: Sequence[DriftExample] = ()
    above_tau: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    validation: Sequence[tuple[float, float]] = ()
