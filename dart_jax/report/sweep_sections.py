"""Write what only some sweeps have: a frontier, other evaluators, answers beside those repaired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dart_jax.evaluate.models import COLLATERAL
from dart_jax.evaluate.sweep_rows import SweepRow, frontier_rows, frontier_strength
from dart_jax.evaluate.sweep_table import SweepTable
from dart_jax.report.document import Column, Note, Section, Table, note, with_values
from dart_jax.report.sweep_cells import has_metric, metric_cells, metric_columns, shown_titles

_FRONTIER_TITLES = {
    "planted": "planted drift",
    "planted_harm": "harm",
    "drift": "remaining drift",
    "accuracy": "accuracy",
    "forced_accuracy": "forced accuracy",
    "auroc": "AUROC",
}
_COLLATERAL_TITLES = {
    "undrifted": "questions without drift",
    "undrifted_same": "same answer, %",
    "undrifted_kl": "KL, nats a token",
    "undrifted_longer": "longer by tokens",
    "drifted_same": "same answer with drift, %",
}


def further_sections(table: SweepTable) -> Iterator[Section]:
    """Write the sections that the sweep's runs have figures for."""
    if tables := frontier_tables(table):
        yield Section("Parts of M_int's adapter", (_frontier_note(), *tables))
    if tables := evaluator_tables(table):
        yield Section("Drift by other evaluators", (*_evaluator_notes(table), *tables))
    if tables := collateral_tables(table):
        yield Section("What else the repair changed", (_collateral_note(), *tables))


def further_tables(table: SweepTable) -> list[Table]:
    """Collect the tables of these sections, without their words."""
    return [*frontier_tables(table), *evaluator_tables(table), *collateral_tables(table)]


def frontier_tables(table: SweepTable) -> list[Table]:
    """Tabulate M0, parts of M_int's adapter, M_int and M_DART; none without a frontier."""
    chosen = frontier_rows(table.rows)
    if not chosen:
        return []

    titles = shown_titles(chosen, _FRONTIER_TITLES)
    rows = []
    for row in chosen:
        strength = frontier_strength(row)
        cells = metric_cells(row, titles)
        # M_DART has no strength of M_int's adapter: an empty cell.
        rows.append(cells if strength is None else {**cells, "strength": strength})

    name, seeds, *figures = metric_columns(titles)
    columns = (name, Column("strength", "strength", "mass"), seeds, *figures)
    caption = "M0 with parts of M_int's adapter, beside M_DART, per cent over seeds"
    return [Table("sweep_frontier", caption, columns, rows)]


def _frontier_note() -> Note:
    return note(
        "M0 answers with M_int's adapter scaled down: strength 0 is M0 itself, 1 is M_int. This is "
        "the cheapest defence, without repairs; a repair is worth its cost where M_DART has less "
        "drift than the strength of equal accuracy. Every strength is audited against M0 as M_int "
        "is. The differences below have each strength less the first variant's M_DART."
    )


def evaluator_tables(table: SweepTable) -> list[Table]:
    """Tabulate each model's drift by evaluators beside the audit; none where there are none."""
    differences = {}
    reference = ""
    if table.differences is not None:
        reference = table.differences.to
        differences = {(row.name, row.model): row for row in table.differences.rows}

    rows = []
    for row in table.rows:
        for by in row.evaluators:
            cells = _evaluator_cells(row, by, differences.get((row.name, row.model)))
            # On the terminal the table stands without the notice.
            said_by = f"{by} (not independent)" if by in table.not_independent else by
            rows.append({"by": said_by, **cells})
    if not rows:
        return []

    columns = (
        Column("name", "model"),
        Column("by", "drift by"),
        Column("seeds", "seeds", "count"),
        Column("audit", "drift by the audit", "interval"),
        Column("drift", "drift", "interval"),
        Column("less", f"minus {reference}", "interval"),
        Column("reduction", "reduction", "interval"),
        Column("kappa", "kappa with the audit", "measure"),
    )
    caption = "Drift by evaluators beside the audit, per cent over seeds"
    return [Table("sweep_evaluators", caption, with_values(columns, rows), rows)]


def _evaluator_cells(row: SweepRow, by: str, difference: SweepRow | None) -> dict[str, Any]:
    figures = row.evaluators[by]
    cells: dict[str, Any] = {"name": row.name, "seeds": figures["drift"].n}
    cells |= {"audit": row.metrics["drift"].estimate}
    cells |= {figure: over_seeds.estimate for figure, over_seeds in figures.items()}
    # The row that the others are compared with has no difference: an empty cell.
    if difference is not None and by in difference.evaluators:
        cells["less"] = difference.evaluators[by]["drift"].estimate
    return cells


def _evaluator_notes(table: SweepTable) -> Iterator[Note]:
    yield note(
        "Drift: share of the test pairs with a verdict that drift to the evaluator, which saw them "
        "apart from the audit; drift by the audit is the remaining drift, of all pairs. Minus: "
        "paired by seed, in points. Reduction: against the same run's M_int. Kappa is Cohen's, of "
        "the evaluator and the audit on the pairs on which both have a verdict."
    )
    for by, settings in table.not_independent.items():
        yield note(
            f"{by} is also {' and '.join(settings)} of some run: it is not independent of the "
            "audit and the repair there.",
            style="notice",
        )


def collateral_tables(table: SweepTable) -> list[Table]:
    """Tabulate how answers changed by variant, and the differences; none where nothing is known."""
    repaired = [row for row in table.rows if has_metric([row], "undrifted")]
    if not repaired:
        return []

    titles = shown_titles(repaired, _COLLATERAL_TITLES)
    rows = [metric_cells(row, titles, row.metrics["undrifted"].n) for row in repaired]
    caption = "M_DART's answers beside M_int's, by variant, over seeds"
    tables = [Table("sweep_collateral", caption, metric_columns(titles), rows)]

    differences = _collateral_differences(table)
    return tables if differences is None else [*tables, differences]


def _collateral_differences(table: SweepTable) -> Table | None:
    if table.differences is None:
        return None
    titles = {metric: _COLLATERAL_TITLES[metric] for metric in COLLATERAL}
    titles = shown_titles(table.differences.rows, titles)
    rows = []
    for row in table.differences.rows:
        seeds = max((row.metrics[metric].n for metric in titles), default=0)
        # M_int and parts of it have no such figures.
        if seeds:
            rows.append(metric_cells(row, titles, seeds))
    if not rows:
        return None

    to = table.differences.to
    caption = f"M_DART's answers beside M_int's: each variant less {to}, paired by seed"
    columns = metric_columns(titles, f"minus {to}")
    return Table("sweep_collateral_differences", caption, columns, rows)


def _collateral_note() -> Note:
    return note(
        "A repair should change the answers that drifted and no others. Questions without drift: "
        "test questions on which the audit confirms none of M_int. Same: word for word. KL: "
        "KL(M_int || M_DART) in nats a token over the first tokens of M_int's answer "
        "(evaluate.first_tokens), and longer: M_DART's tokens less M_int's, both on questions "
        "without drift. Same answer with drift: on the other questions. Brackets: t intervals over "
        "seeds; differences of shares are in points."
    )
