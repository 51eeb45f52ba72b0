"""Write the section on forced decisions: which conclusion line each model finds likelier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dart_jax.evaluate.metrics import ModelMetrics
from dart_jax.evaluate.reliability import BINS
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report import figures
from dart_jax.report.document import Block, Code, Column, Figure, Section, Table, note
from dart_jax.report.protocol import protocol_words
from dart_jax.report.results import captioned, with_baseline

FORCED_COLUMNS = (
    Column("forced_accuracy", "forced accuracy", "interval"),
    Column("auroc", "AUROC", "measure"),
)


def forced(summary: RunSummary) -> Section | None:
    """Write the section; None where no decision was forced."""
    table = forced_table(summary)
    if table is None:
        return None

    reliable = {}
    for name, metrics in summary.models.items():
        if metrics.reliability is not None:
            reliable[name] = metrics.reliability

    picture = Figure(
        "reliability",
        f"Probability of YES against the share of DIFF questions; {protocol_words(summary)}",
        figures.reliability(reliable),
    )
    return Section("Forced decisions", (table, *_notes(summary), picture), anchor="forced")


def forced_table(summary: RunSummary) -> Table | None:
    """Tabulate forced decisions beside strict accuracy; None where no decision was forced."""
    rows: list[dict[str, Any]] = []
    for name, metrics in with_baseline(summary).items():
        if metrics.reliability is not None:
            row = {"model": name, "accuracy": metrics.estimate("accuracy"), **forced_cells(metrics)}
            rows.append({**row, "ece": metrics.reliability.ece})
    # The shortcut baseline always has odds; alone it is no table of forced decisions.
    if not any(row["model"] in summary.models for row in rows):
        return None

    columns = (
        Column("model", "model"),
        Column("accuracy", "accuracy (strict)", "interval"),
        *FORCED_COLUMNS,
        Column("ece", "ECE", "number"),
    )
    caption = "Decisions forced after each analysis, accuracy in per cent"
    return captioned(summary, "forced", caption, columns, rows)


def forced_cells(metrics: ModelMetrics) -> dict[str, Any]:
    """Fill the cells of FORCED_COLUMNS; without any where no decision was forced."""
    if metrics.forced_accuracy is None:
        return {}
    return {"forced_accuracy": metrics.forced_accuracy, "auroc": metrics.auroc}


def _notes(summary: RunSummary) -> Iterator[Block]:
    yield note(
        "In the strict accuracy an answer without a conclusion line is wrong, whatever its model "
        "knows. Here every answer has a decision: after its analysis, without conclusion lines of "
        "its own, the likelier of ",
        Code("Conclusion: YES"),
        " and ",
        Code("Conclusion: NO"),
        ". AUROC is how often a DIFF question gets higher odds of YES than an EQUAL one, 0.5 for a "
        "coin; unlike accuracy, it does not depend on how readily a model says YES. ECE is how far "
        f"the probability of YES is from the share of DIFF questions, over {BINS} bins of equal "
        "width; few questions make it larger. Intervals resample whole scenarios. The shortcut "
        "baseline's probability is that of its classifier.",
    )

    lacking = max(metrics.no_margin for metrics in summary.models.values())
    if lacking:
        yield note(
            f"{lacking} of a model's answers left no room for the line in its context: they are "
            "in none of these figures but the strict accuracy.",
            style="notice",
        )
