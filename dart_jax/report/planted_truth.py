"""Write the section on planted drift: what is left of it, and what the audit saw of it."""

from __future__ import annotations

from typing import Any

from dart_jax.evaluate.audit_quality import AuditQuality
from dart_jax.evaluate.drift_change import Changes, Reduction
from dart_jax.evaluate.models import AUDITED, SEVERITIES
from dart_jax.evaluate.planted import Planted
from dart_jax.evaluate.summary import RunSummary
from dart_jax.records import DriftType
from dart_jax.report.audit_error import PAPER
from dart_jax.report.cells import p_value, percent, with_bounds
from dart_jax.report.document import Block, Column, Figure, Note, Section, Strong, Table, note
from dart_jax.report.drift_change import CHANGE_COLUMNS, CHANGE_WORDS, change_cells
from dart_jax.report.planted_figure import dose_response
from dart_jax.report.planting import planted_words
from dart_jax.report.protocol import protocol_words
from dart_jax.report.terms import TYPE_WORDS
from dart_jax.summaries import Estimate

_TYPES = tuple(kind.value for kind in DriftType)
_POOL = "M_int, drift pool"

_RECOGNISED = (
    "An answer shows planted drift where it holds a run of a planted sentence's own words that "
    "M0's answer to the question does not hold or, where an omission was planted, leaves out the "
    "harm that M0's names. For M0 the count is of answers with such words, which nobody taught it."
)
_QUALITY = (
    "Precision: of the pairs that the audit confirmed, the share with planted drift; recall: of "
    "the pairs with planted drift, the share that it confirmed. A pair that was not screened, or "
    "on which it has no verdict (undecided), was not confirmed. What the audit confirms beside the "
    "planted faults counts as false here, harmful or not. The published audit was measured by "
    "people."
)


def planted_truth(summary: RunSummary) -> Section | None:
    """Write the section on planted drift; None where no fault was planted."""
    blocks = planted_blocks(summary)
    if not blocks:
        return None
    figure = Figure(
        "dose_response",
        f"Planted drift before and after the repair, by severity; {protocol_words(summary)}",
        dose_response(summary.planted),
    )
    return Section("Planted drift, and the audit against it", (*blocks, figure), "planted")


def planted_blocks(summary: RunSummary) -> list[Block]:
    """Say what was planted, and tabulate what became of it; nothing where nothing was planted."""
    planted, planting = summary.planted, summary.planting
    if planted is None or planting is None:
        return []
    return [
        note(
            Strong("These faults were planted on purpose"),
            f" ({planted_words(planting)}): their drift is known from its words, and no scorer or "
            "judge has a part in these counts.",
            style="notice",
        ),
        planted_note(planted),
        planted_table(summary),
        note(f"{_RECOGNISED} {TYPE_WORDS}"),
        _reduction_table(summary, planted),
        note(CHANGE_WORDS + " A severity's answers are those whose drift has it."),
        _quality_table(summary, planted),
        note(_QUALITY),
        _recall_table(summary, planted),
    ]


def planted_note(planted: Planted) -> Note:
    """Say in a sentence how much less planted drift M_DART shows than M_int."""
    reduction = planted.reduction
    if reduction.value is None:
        return note("M_int shows no planted drift on test questions: a reduction is not defined.")

    before, after = planted.models["M_int"].drifted, planted.models["M_DART"].drifted
    direction = "more" if reduction.value < 0 else "less"
    interval = with_bounds(_estimate(reduction), percent)
    return note(
        "Planted drift on test questions: ",
        Strong(f"{percent(abs(reduction.value))} % {direction}"),
        f" in M_DART than in M_int ({before} answers before the repair, {after} after it). "
        f"Reduction in %, with its interval: {interval}; McNemar's p {_p(reduction)}.",
    )


def _p(reduction: Reduction) -> str:
    return "n/a" if reduction.p is None else p_value(reduction.p)


def _estimate(reduction: Reduction) -> Estimate:
    return Estimate(reduction.value, reduction.low, reduction.high)


def planted_table(summary: RunSummary) -> Table:
    """Count the answers with planted drift of each model, by severity and type."""
    planted = summary.planted
    rows = []
    for name, counts in {**planted.models, _POOL: planted.pool}.items():
        row: dict[str, Any] = {"model": name, "n": counts.n, "drifted": counts.drifted}
        rows.append({**row, **counts.by_severity, **counts.by_type})

    columns = (
        Column("model", "model"),
        Column("n", "answers", "count"),
        Column("drifted", "planted drift", "count"),
        *(Column(key, key, "count") for key in (*SEVERITIES, *_TYPES)),
    )
    caption = f"Answers with planted drift by severity and type; {protocol_words(summary)}"
    return Table("planted", caption, columns, rows)


def _reduction_table(summary: RunSummary, planted: Planted) -> Table:
    rows = [_reduction_row("all", planted.rates, planted.reduction, planted.changes)]
    for name, found in planted.severities.items():
        rows.append(_reduction_row(name, found.rates, found.reduction, found.changes))

    columns = (
        Column("severity", "severity"),
        Column("M_int", "M_int, % of answers", "interval"),
        Column("M_DART", "M_DART, % of answers", "interval"),
        *CHANGE_COLUMNS,
    )
    caption = f"Planted drift before and after the repair; {protocol_words(summary)}"
    return Table("planted_reduction", caption, columns, rows)


def _reduction_row(
    name: str, rates: dict[str, Estimate], reduction: Reduction, changes: Changes
) -> dict[str, Any]:
    cells = change_cells(_estimate(reduction), reduction.p, changes)
    return {"severity": name, **rates, **cells}


def _qualities(planted: Planted) -> dict[str, AuditQuality]:
    tested = {f"{name}, test": planted.audit[name] for name in AUDITED}
    return {**tested, _POOL: planted.pool.audit}


def _quality_table(summary: RunSummary, planted: Planted) -> Table:
    measures = ("precision", "recall", "f1")
    rows: list[dict[str, Any]] = []
    for name, quality in _qualities(planted).items():
        row: dict[str, Any] = {"audited": name, **vars(quality)}
        for measure in measures:
            bounds = getattr(quality.intervals, measure)
            row[measure] = Estimate(getattr(quality, measure), *(bounds or ()))
        rows.append(row)
    published = {measure: Estimate(value) for measure, value in PAPER.items()}
    rows.append({"audited": "published, by people", **published})

    columns = (
        Column("audited", "audited against M0"),
        Column("precision", "precision", "measure"),
        Column("recall", "recall", "measure"),
        Column("f1", "F1", "measure"),
        *(Column(key, key, "count") for key in ("pairs", "found", "missed", "false", "undecided")),
    )
    caption = f"The audit against planted drift; {protocol_words(summary)}"
    return Table("planted_audit", caption, columns, rows)


def _recall_table(summary: RunSummary, planted: Planted) -> Table:
    rows = []
    for name, quality in _qualities(planted).items():
        for severity, found in quality.by_severity.items():
            rows.append({"audited": name, "severity": severity, **vars(found)})

    columns = (
        Column("audited", "audited against M0"),
        Column("severity", "severity"),
        Column("drifted", "planted drift", "count"),
        Column("found", "found by the audit", "count"),
        Column("recall", "recall, %", "rate"),
    )
    caption = f"Planted drift that the audit found, by severity; {protocol_words(summary)}"
    return Table("planted_recall", caption, columns, rows)
