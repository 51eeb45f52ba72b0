"""Write the report of a run from one document: `report.md`, `index.html` and tables.

It is made from `evaluation/summary.json` and `evaluation/report_data.json`, and from what was
measured since: `audit/calibration.json`, `audit/annotation_metrics.json`, open-ended queries and
external suites. What is measured later enters by `rewrite_report`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dart_jax.audit.agreement import read_agreement
from dart_jax.audit.noise_floor import TAU, Calibration
from dart_jax.chat.usage import USAGE, read_usage
from dart_jax.evaluate.summary import SUMMARY, RunSummary, read_summary
from dart_jax.records import to_json, write_text
from dart_jax.report.audit_error import noise_floor, people
from dart_jax.report.collateral import collateral, collateral_table
from dart_jax.report.cycles import cycles
from dart_jax.report.document import Block, Document, Figure, note, tables_of, tagged, walk
from dart_jax.report.drift import audit_table, drift, drift_terms, reduction_note, uncertain
from dart_jax.report.evaluators import drift_by_table, evaluators, not_independent
from dart_jax.report.external import external_sections
from dart_jax.report.figures import to_png
from dart_jax.report.forced import forced, forced_table
from dart_jax.report.frontier import frontier
from dart_jax.report.in_short import in_short
from dart_jax.report.page import write_page
from dart_jax.report.planted_truth import planted_note, planted_table, planted_truth
from dart_jax.report.planting import planted_document, planted_notice, with_planting
from dart_jax.report.protocol import protocol_note, protocol_words
from dart_jax.report.report_data import REPORT_DATA, ReportData
from dart_jax.report.results import benchmarks, results
from dart_jax.report.run_sections import cost, examples, limits, provenance, training, what_was_run
from dart_jax.report.statistics import policy, statistics
from dart_jax.report.terms import TYPE_WORDS
from dart_jax.report.to_csv import to_csv
from dart_jax.report.to_latex import to_latex
from dart_jax.report.to_markdown import to_markdown
from dart_jax.report.to_text import to_text
from dart_jax.summaries import read_json

CALIBRATION = "audit/calibration.json"
TABLES = "evaluation/tables"

T = TypeVar("T")


def write_report(run_path: Path, summary: RunSummary, data: ReportData) -> Path:
    """Write report, page and tables into a run's folder.

    Returns:
        The path of `report.md`; its images are linked relative to it.
    """
    write_text(run_path / REPORT_DATA, to_json(data) + "\n")
    return _write(run_path, summary, data)


def rewrite_report(run_path: Path) -> Path:
    """Write the report of an evaluated run once more, with what was measured since.

    Raises:
        FileNotFoundError, BadRecord: The run was not evaluated, or by another version.
    """
    summary = read_summary(run_path / SUMMARY)
    data = read_json(run_path / REPORT_DATA, ReportData)
    return _write(run_path, summary, data)


def _write(run_path: Path, summary: RunSummary, data: ReportData) -> Path:
    document = run_document(run_path, summary, data)
    folder = run_path / "report"
    for block in walk(document.sections):
        if isinstance(block, Figure):
            write_bytes(folder / f"{block.name}.png", to_png(block.picture))
    path = folder / "report.md"
    write_text(path, to_markdown(document))
    write_page(folder / "index.html", document, run_path, data.config)

    for table in tables_of(document.sections):
        write_text(run_path / TABLES / f"{table.name}.csv", to_csv(table))
        write_text(run_path / TABLES / f"{table.name}.tex", to_latex(table))
    return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run_document(run_path: Path, summary: RunSummary, data: ReportData) -> Document:
    """Collect everything that the report of a run says."""
    config = data.config
    severity_bins = config["audit"]["severity_bins"]
    judged = summary.judges_types
    # Where tau is auto, the audit has measured the noise of one other seed already.
    calibration = _read(run_path / CALIBRATION, Calibration) or _read(run_path / TAU, Calibration)

    short = in_short(summary, data.confidence)
    # Every caption below names protocol and split: they are explained before the first.
    short = replace(short, blocks=(*short.blocks, protocol_note(summary)))

    sections = [
        short,
        drift(summary, data.deltas, severity_bins, calibration, data.above_tau),
        evaluators(summary),
        collateral(summary),
        examples(data.examples, judged),
        uncertain(data.uncertain),
        planted_truth(summary),
        results(summary, data.confidence),
        benchmarks(summary),
        forced(summary),
        policy(summary),
        cycles(summary, config["repair"]["cycles"]),
        frontier(summary),
        statistics(summary),
        noise_floor(calibration, summary),
        people(read_agreement(run_path), judged),
        *external_sections(run_path),
        what_was_run(summary, config),
        training(summary, data.losses, data.validation, config["sft"]),
        cost(summary, read_usage(run_path / USAGE)),
        limits(summary, config),
        provenance(config, _versions(run_path), _hashes(run_path)),
    ]

    name = str(config["run"]["name"])
    # Tags before planting: `tagged` replaces a table's tags, the remark on faults is added to them.
    tags = {"run": name, "protocol": summary.protocol, "split_by": summary.split_by}
    kept = tuple(section for section in sections if section is not None)
    return planted_document(Document(f"DART run {name}", tagged(kept, tags)), summary.planting)


def console_text(summary: RunSummary, data: ReportData) -> str:
    """Collect what a run prints at its end: what it comes to, results and drift."""
    confidence = data.confidence
    blocks: list[Block] = list(in_short(summary, confidence).blocks)
    if summary.planting is not None:
        blocks.insert(0, planted_notice(summary.planting))
    asked = note(
        f"{protocol_words(summary)}, {summary.test_questions} test questions; figures in %"
    )
    blocks += [asked, drift_terms(summary), audit_table(summary), reduction_note(summary)]
    if len(summary.drift_by) > 1:
        blocks += [drift_by_table(summary), *not_independent(summary)]
    if summary.collateral is not None:
        blocks.append(collateral_table(summary, summary.collateral))
    if summary.planted is not None:
        blocks += [planted_table(summary), note(TYPE_WORDS), planted_note(summary.planted)]

    [labels, table, brackets, *notes] = results(summary, confidence).blocks
    blocks += [labels, table, brackets]
    forced_decisions = forced_table(summary)
    if forced_decisions is not None:
        blocks.append(forced_decisions)
    return to_text(with_planting([*blocks, *notes], summary.planting))


def _read(path: Path, kind: type[T]) -> T | None:
    """Read and validate a file of measurements; None where nothing was measured."""
    return read_json(path, kind) if path.exists() else None


def _versions(run_path: Path) -> dict[str, str]:
    path = run_path / "versions.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _hashes(run_path: Path) -> list[tuple[str, str, str]]:
    """Collect what the stages before this one read and wrote."""
    found = []
    for path in sorted((run_path / "stages").glob("*.json")):
        if path.stem == "evaluate":  # its outputs are hashed when it ends: this report is one
            continue
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found.append((path.stem, "inputs", manifest["digest"]))
        for name, value in manifest["outputs"].items():
            if value:
                found.append((path.stem, name, value))
    return found
