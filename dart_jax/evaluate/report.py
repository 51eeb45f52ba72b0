"""The report of a run: `report/report.md` with its figures, and `report/index.html`.

It is made from `evaluation/summary.json` and `evaluation/report_data.json`, and from what the
audit knows of its own error, where that was measured: `audit/calibration.json` and
`audit/annotation_metrics.json`. Measured later, it enters by `rewrite_report`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dart_jax.chat.usage import USAGE, read_usage
from dart_jax.evaluate import audit_error, audit_sections, plots, sections, statistics_sections
from dart_jax.evaluate.page import write_page
from dart_jax.evaluate.protocol import protocol_words
from dart_jax.evaluate.wider_sections import wider
from dart_jax.records import (
    BadRecord,
    DriftType,
    Severity,
    Uncertain,
    from_json,
    to_json,
    write_text,
)

CALIBRATION = "audit/calibration.json"
ANNOTATION_METRICS = "audit/annotation_metrics.json"
_DATA = "evaluation/report_data.json"


@dataclass(frozen=True)
class DriftExample:
    """One confirmed drift on a test question, with what the three models wrote.

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
    """What the report shows beside the summary.

    Attributes:
        config: The resolved configuration, nested by section.
        confidence: Coverage of the intervals in the summary, in (0, 1).
        tau: The audit's threshold.
        deltas: Score differences of the test pairs, by model name (M_int, M_DART).
        losses: `(step, loss)` by stage (distill, repair).
        uncertain: Pairs on which the judge's two orders disagree, by audit (`M_int, test`).
        examples: Drift cases to show; the first three are.
        above_tau: Test pairs whose delta exceeds tau, by model name and scorer.
    """

    config: Mapping[str, Any]
    confidence: float
    tau: float
    deltas: Mapping[str, Sequence[float]]
    losses: Mapping[str, Sequence[tuple[int, float]]]
    uncertain: Mapping[str, Sequence[Uncertain]] = field(default_factory=dict)
    examples: Sequence[DriftExample] = ()
    above_tau: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def write_report(run_path: Path, summary: dict, extras: ReportData) -> Path:
    """Write the report into a run's folder, and what it is made from.

    The page for a browser is made from the run's other files, too: see `page.write_page`.

    Args:
        run_path: The run's folder.
        summary: As built by `summary.build_summary`.
        extras: The configuration, curves and examples.

    Returns:
        The path of `report.md`; its images are linked relative to it.
    """
    write_text(run_path / _DATA, to_json(extras) + "\n")
    return _write(run_path, summary, extras)


def rewrite_report(run_path: Path) -> Path:
    """Write the report of an evaluated run once more, with what was measured since.

    Raises:
        FileNotFoundError, BadRecord: The run was not evaluated, or by another version.
    """
    data = run_path / _DATA
    path = run_path / "evaluation/summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    if "statistics" not in summary:
        raise BadRecord(f"{path} is an earlier version's; run the stage evaluate again")
    extras = from_json(data.read_text(encoding="utf-8"), ReportData, where=str(data))
    return _write(run_path, summary, extras)


def _write(run_path: Path, summary: dict, extras: ReportData) -> Path:
    folder = run_path / "report"
    calibration = _read(run_path / CALIBRATION)
    annotations = _read(run_path / ANNOTATION_METRICS)
    _draw(folder, summary, extras, calibration)
    page = [
        f"# DART run {sections.name_of(extras.config)}",
        sections.what_was_run(summary, extras.config),
        sections.results(summary, extras.confidence),
        _image("accuracy_by_benchmark", "Accuracy by benchmark and overall", summary),
        sections.by_benchmark(summary),
        statistics_sections.statistics(summary),
        statistics_sections.policy(summary),
        audit_sections.drift(summary),
        audit_error.by_scorer(extras.above_tau),
        _image("delta_histogram", "Score differences and the threshold tau", summary),
        _image("severity", "Confirmed drift by severity", summary),
        audit_sections.uncertain(extras.uncertain),
        audit_error.noise_floor(calibration, summary),
        _image("null_deltas", "Score differences of M0 against itself", summary)
        if calibration
        else "",
        audit_error.people(annotations),
        wider(run_path),
        sections.repair(summary),
        audit_sections.cycles(summary, extras.config["repair"]["cycles"]),
        sections.rejects(summary),
        _image("loss", "Training loss by step", summary),
        sections.seconds(summary),
        sections.usage(read_usage(run_path / USAGE)),
        sections.examples(extras.examples[:3]),
        sections.limits(summary, extras.config),
    ]
    path = folder / "report.md"
    write_text(path, "\n\n".join(part for part in page if part) + "\n")
    write_page(run_path, summary, extras, calibration, annotations)
    return path


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _draw(
    folder: Path, summary: dict, extras: ReportData, calibration: Mapping[str, Any] | None
) -> None:
    shortcut = summary["shortcut_baseline"]["accuracy"]
    plots.accuracy_by_benchmark(summary["models"], shortcut, folder / "accuracy_by_benchmark.png")
    plots.delta_histogram(extras.deltas, extras.tau, folder / "delta_histogram.png")
    plots.severity_bars(summary["drift"], folder / "severity.png")
    plots.loss_curves(extras.losses, folder / "loss.png")
    if calibration:
        plots.null_histogram(calibration, folder / "null_deltas.png")


def _image(name: str, words: str, summary: dict) -> str:
    return f"![{words}]({name}.png)\n\n*{words}; {protocol_words(summary)}.*"
