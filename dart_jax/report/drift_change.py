"""Write how drift changed in the repair: reduction with interval and test, fates, and rates."""

from __future__ import annotations

from typing import Any

from dart_jax.evaluate.drift_change import Changes
from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Block, Column, Table, note
from dart_jax.report.protocol import protocol_words
from dart_jax.summaries import Estimate

CHANGE_COLUMNS = (
    Column("reduction", "reduction, %", "interval"),
    Column("p", "p", "p"),
    Column("repaired", "repaired", "count"),
    Column("persisting", "persisting", "count"),
    Column("new", "new", "count"),
)

CHANGE_WORDS = (
    "Brackets: bootstrap intervals; a resample draws whole scenarios, and both models on the same "
    "questions. p is McNemar's, exact, of drift before against after, paired by question. "
    "Repaired: drift in M_int only; persisting: in both; new: in M_DART only."
)
_UNDECIDED = (
    " Undecided: questions on which an audit has no verdict; they are in none of these counts, nor "
    "in p, and no confirmed drift in the reduction."
)
_CORRECTED = (
    "Corrected: the rate that would let an audit with the sensitivity and specificity that people "
    "measured on the drift pool confirm this much (Rogan and Gladen; interval after Lang and "
    "Reiczigel). It takes the audit to err alike on both models and on both sets of questions."
)


def change_blocks(summary: RunSummary) -> list[Block]:
    """Tabulate the change of confirmed drift, and the rates; nothing where it was not computed."""
    drift = summary.drift
    if drift.changes is None:
        return []

    row = change_cells(drift.estimate, drift.reduction_p, drift.changes)
    columns = (*CHANGE_COLUMNS, Column("undecided", "undecided", "count"))
    caption = f"Change of confirmed drift on test questions; {protocol_words(summary)}"
    # Planted drift, whose table shares the other columns, is never undecided.
    row["undecided"] = drift.changes.undecided
    return [
        Table("drift_tests", caption, columns, [row]),
        note(CHANGE_WORDS + _UNDECIDED),
        _rates_table(summary),
        *([] if drift.corrected is None else [note(_CORRECTED)]),
    ]


def change_cells(reduction: Estimate, p: float | None, changes: Changes) -> dict[str, Any]:
    """Fill the cells of CHANGE_COLUMNS."""
    return {
        "reduction": reduction,
        "p": p,
        "repaired": changes.repaired,
        "persisting": changes.persisting,
        "new": changes.new,
    }


def _rates_table(summary: RunSummary) -> Table:
    rows = []
    for name in AUDITED:
        rate = summary.drift.rates[name]
        row: dict[str, Any] = {"model": name, "pairs": rate.pairs}
        row["rate"] = Estimate(rate.value, rate.low, rate.high)
        if summary.drift.corrected is not None:
            row["corrected"] = summary.drift.corrected.get(name)
        rows.append(row)

    columns = [
        Column("model", "audited against M0"),
        Column("pairs", "pairs with a verdict", "count"),
        Column("rate", "confirmed drift, %", "interval"),
    ]
    if summary.drift.corrected is not None:
        columns.append(Column("corrected", "corrected for the audit's error, %", "interval"))
    caption = f"Share of the test pairs that drift; {protocol_words(summary)}"
    return Table("drift_rates", caption, tuple(columns), rows)
