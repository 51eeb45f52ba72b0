"""Write the section on audit and repair in more than one cycle."""

from __future__ import annotations

from typing import Any

from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Block, Column, Section, Table, note, with_values
from dart_jax.report.drift import COUNTS
from dart_jax.report.forced import FORCED_COLUMNS, forced_cells
from dart_jax.report.protocol import protocol_words


def cycles(summary: RunSummary, planned: int) -> Section | None:
    """Write the section on drift and accuracy by cycle; None where one cycle was planned.

    Args:
        planned: `repair.cycles`.
    """
    if planned == 1:
        return None

    rows = []
    for number, cycle in enumerate(summary.cycles, 1):
        row: dict[str, Any] = {
            "cycle": str(number),
            "audited": cycle.audited,
            "model": cycle.model,
            "repairs": cycle.repairs,
            "accuracy": cycle.test.estimate("accuracy"),
            "equal": cycle.test.equal_accuracy,
            "diff": cycle.test.diff_accuracy,
            **forced_cells(cycle.test),
        }
        if cycle.planted is not None:
            row["planted"] = cycle.planted.drifted
        for name, counts in (("pool", cycle.pool), ("test", cycle.drift)):
            row |= {f"{name}_{key}": getattr(counts, key) for key in COUNTS}
        rows.append(row)

    outcomes = ("confirmed", "uncertain", "failed")
    columns = (
        Column("cycle", "cycle"),
        Column("audited", "audited"),
        Column("model", "result"),
        Column("pool_pairs", "pool: pairs", "count"),
        *(Column(f"pool_{key}", f"pool: {key}", "count") for key in outcomes),
        Column("repairs", "repairs", "count"),
        *(Column(f"test_{key}", f"test: {key}", "count") for key in outcomes),
        Column("planted", "test: planted drift", "count"),
        Column("accuracy", "accuracy", "interval"),
        Column("equal", "EQUAL", "rate"),
        Column("diff", "DIFF", "rate"),
        *FORCED_COLUMNS,
    )
    caption = f"Drift and accuracy by cycle; {protocol_words(summary)}"
    blocks: list[Block] = [
        Table("cycles", caption, with_values(columns, rows), rows),
        note(
            "Each cycle audits a model on the drift pool against M0 and trains it on from there. "
            "The figures after repairs are of the result, on test questions; beside them stand "
            "those of M_int and M_DART above."
        ),
    ]
    if len(rows) < planned:
        blocks.append(
            note(
                f"{planned} cycles were planned; the last of these repaired nothing, and no "
                "accuracy had a part in that."
            )
        )
    return Section("Cycles", tuple(blocks), anchor="cycles")
