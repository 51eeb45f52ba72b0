"""Write the sections on accuracy: the models' results, and by benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.evaluate.metrics import ModelMetrics, Rates
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report import figures
from dart_jax.report.document import (
    Block,
    Code,
    Column,
    Figure,
    Note,
    Section,
    Strong,
    Table,
    no_room_note,
    note,
)
from dart_jax.report.protocol import protocol_words
from dart_jax.report.terms import benchmarks_note, labels_note

BASELINE = "shortcut baseline"

AGREED_WORDS = (
    "Where all scenarios agree, as on 0 or 100 %, the interval is Clopper and Pearson's for so "
    "many scenarios."
)

RATE_COLUMNS = (
    Column("accuracy", "accuracy", "interval"),
    Column("equal_accuracy", "EQUAL", "interval"),
    Column("diff_accuracy", "DIFF", "interval"),
    Column("yes_rate", "YES rate", "rate"),
    Column("unparseable_rate", "unparseable", "rate"),
)


def results(summary: RunSummary, confidence: float) -> Section:
    """Write the section on the three models and the shortcut baseline.

    Args:
        confidence: Coverage of the intervals, in (0, 1).
    """
    rows = []
    for name, metrics in with_baseline(summary).items():
        drift = summary.drift.of(name)
        row = {"model": name, **rate_cells(metrics)}
        if drift is not None:
            row["drift"] = f"{drift.confirmed} of {drift.pairs}"
        rows.append(row)

    columns = (Column("model", "model"), *RATE_COLUMNS, Column("drift", "drift, test"))
    table = captioned(summary, "results", "Test accuracy and decisions, per cent", columns, rows)
    notes = (labels_note(), table, *_results_notes(summary, confidence))
    return Section("Results", notes, anchor="results")


def _results_notes(summary: RunSummary, confidence: float) -> Iterator[Block]:
    yield note(
        f"Per cent of the test questions. Brackets: {100 * confidence:g} % percentile bootstrap "
        f"intervals, resampled by scenario. {AGREED_WORDS} The shortcut baseline is TF-IDF with "
        "logistic regression on the questions' wording alone, fitted on the same training "
        "questions: accuracy below it may come from wording."
    )

    unlabelled = summary.models["M0"].unlabelled
    if unlabelled:
        yield note(
            f"{unlabelled} more test questions have no label: they were answered and audited, and "
            "are in none of these rates."
        )

    no_room = max(model.no_room for model in summary.models.values())
    if no_room:
        yield no_room_note(no_room)


def same_model(summary: RunSummary) -> Note:
    """Say why M_DART is M_int, where it is."""
    confirmed = summary.drift_pool.confirmed
    if summary.distill_only:
        return note(
            Strong("M_DART is M_int"),
            ": distill only (",
            Code("repair.epochs"),
            f" is 0); {confirmed} drift cases of the drift pool were not repaired.",
            style="notice",
        )

    why = "no drift case was confirmed on the drift pool"
    if confirmed:
        why = (
            f"{confirmed} drift cases were confirmed on the drift pool but none got an acceptable "
            "repair target"
        )

    return note(
        Strong("M_DART is M_int"), f": {why}, so that there was nothing to repair.", style="notice"
    )


def with_baseline(summary: RunSummary) -> dict[str, ModelMetrics]:
    """List the metrics of each model, and of the shortcut baseline after them."""
    return {**summary.models, BASELINE: summary.shortcut_baseline}


def rate_cells(metrics: ModelMetrics) -> dict[str, Any]:
    """Fill the cells of RATE_COLUMNS."""
    return {
        "accuracy": metrics.estimate("accuracy"),
        "equal_accuracy": metrics.estimate("equal_accuracy"),
        "diff_accuracy": metrics.estimate("diff_accuracy"),
        "yes_rate": metrics.yes_rate,
        "unparseable_rate": metrics.unparseable_rate,
    }


def benchmarks(summary: RunSummary) -> Section:
    """Tabulate the accuracy of each model and the shortcut baseline on each benchmark."""
    metrics = {**summary.models, "shortcut": summary.shortcut_baseline}
    names = sorted({name for model in summary.models.values() for name in model.by_benchmark})

    columns = [Column("benchmark", "benchmark"), Column("n", "n", "count")]
    columns += [Column(name, name, "rate") for name in metrics]
    columns += [Column(f"{name} split", f"{name} EQUAL / DIFF", "rates") for name in metrics]

    rows = []
    for benchmark in names:
        row: dict[str, Any] = {"benchmark": benchmark}
        for name, model in metrics.items():
            rates = model.by_benchmark.get(benchmark)
            if rates is not None:
                row.setdefault("n", rates.n)
                row[name] = rates.accuracy
                row[f"{name} split"] = _equal_and_diff(rates)
        rows.append(row)

    table = captioned(summary, "benchmarks", "Accuracy by benchmark, per cent", columns, rows)
    picture = figures.accuracy_by_benchmark(summary.models, summary.shortcut_baseline.accuracy)
    caption = f"Accuracy by benchmark and overall; {protocol_words(summary)}"
    # The note explains the suite's own names; other data may use them otherwise.
    blocks: list[Block] = [benchmarks_note()] if set(names) <= set(BENCHMARKS) else []
    blocks += [Figure("accuracy_by_benchmark", caption, picture), table]
    return Section("Accuracy by benchmark", tuple(blocks), anchor="benchmarks")


def _equal_and_diff(rates: Rates) -> tuple[float | None, float | None]:
    return rates.equal_accuracy, rates.diff_accuracy


def captioned(
    summary: RunSummary,
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[dict[str, Any]],
) -> Table:
    """Make a table whose caption ends with protocol and split."""
    return Table(name, f"{caption}; {protocol_words(summary)}", tuple(columns), rows)
