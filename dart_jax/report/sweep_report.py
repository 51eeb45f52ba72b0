"""Write the report of a sweep: `table.md`, `.csv`, `.tex`, `.json`, and the picture."""

from __future__ import annotations

from pathlib import Path

from dart_jax.evaluate.expectations import Expectation
from dart_jax.evaluate.models import COLLATERAL, COMPARED, SEVERITIES
from dart_jax.evaluate.sweep_table import SweepTable
from dart_jax.records import write_text
from dart_jax.report.document import (
    Block,
    Bullets,
    Column,
    Document,
    Figure,
    Note,
    Section,
    Table,
    note,
    tables_of,
    with_values,
)
from dart_jax.report.figures import to_png, to_svg
from dart_jax.report.planting import planted_in_some, with_remark
from dart_jax.report.run_report import write_bytes
from dart_jax.report.sweep_cells import (
    has_metric,
    kind_of,
    metric_cells,
    metric_columns,
    shown_titles,
)
from dart_jax.report.sweep_figures import accuracy_against_drift, dose_response
from dart_jax.report.sweep_sections import further_sections, further_tables
from dart_jax.report.to_csv import to_csv
from dart_jax.report.to_latex import to_latex
from dart_jax.report.to_markdown import to_markdown
from dart_jax.report.to_text import to_text
from dart_jax.summaries import read_json, to_pretty_json

PICTURE = "accuracy_vs_drift"
DOSE_RESPONSE = "dose_response"
_TITLES = {
    "accuracy": "accuracy",
    "equal_accuracy": "EQUAL",
    "diff_accuracy": "DIFF",
    "unparseable_rate": "unparseable",
    "forced_accuracy": "forced accuracy",
    "auroc": "AUROC",
    "drift": "remaining drift",
    "drift_reduction": "reduction",
}
_PLANTED_TITLES = {
    "planted": "planted drift",
    "planted_harm": "harm",
    **{f"planted_{name}": name for name in SEVERITIES},
    "planted_reduction": "reduction",
}


def write_sweep(folder: Path, table: SweepTable) -> None:
    """Write everything that is said of a sweep into its folder."""
    document = sweep_document(table)
    write_text(folder / "table.json", to_pretty_json(table))
    write_text(folder / "table.md", to_markdown(document))
    tables = tables_of(document.sections)
    # A CSV file holds one table: this is the main one.
    write_text(folder / "table.csv", to_csv(tables[0]) if tables else "")
    write_text(folder / "table.tex", "\n".join(to_latex(each) for each in tables))

    pictures = {PICTURE: accuracy_against_drift(table)}
    if _plants(table):
        pictures[DOSE_RESPONSE] = dose_response(table)
    for name, picture in pictures.items():
        write_bytes(folder / f"{name}.png", to_png(picture))
        write_bytes(folder / f"{name}.svg", to_svg(picture))


def sweep_document(table: SweepTable) -> Document:
    """Collect what is said of a sweep."""
    blocks: list[Block] = [_what_was_measured(table)]
    if table.rows:
        picture = accuracy_against_drift(table)
        blocks += [
            _main_table(table),
            *_notes(table),
            Figure(PICTURE, "Accuracy against remaining drift on test questions", picture),
        ]

    sections = [Section("Results over seeds", tuple(blocks))]
    if _plants(table):
        sections.append(Section("Planted faults left", tuple(_planted_blocks(table))))
    sections += further_sections(table)
    if table.expectations:
        sections.append(Section("What was expected", tuple(_expectation_blocks(table))))
    if table.differences is not None and table.differences.rows:
        sections.append(Section("Differences, paired by seed", (_differences_table(table),)))
    if table.failures:
        sections.append(Section("Failed", (_failures(table),)))

    return Document(f"Sweep {table.name}", with_remark(sections, _planted(table)))


def sweep_text(folder: Path) -> str:
    """Write the main table and what failed, for a terminal."""
    table = read_json(folder / "table.json", SweepTable)
    blocks: list[Block] = [_main_table(table)] if table.rows else []
    if _plants(table):
        blocks.append(_planted_table(table))
    blocks += further_tables(table)
    if table.expectations:
        blocks.append(_expectations_table(table))
    if table.failures:
        blocks.append(_failures(table))
    blocks.append(note(f"{table.done} of {table.runs} runs done: {folder / 'table.md'}"))
    return to_text(with_remark(blocks, _planted(table)))


def _planted(table: SweepTable) -> str:
    """Say which variants planted faults; '' where none did."""
    return planted_in_some(table.planted, len({v for row in table.rows for v in row.variants}))


def _what_was_measured(table: SweepTable) -> Note:
    done = f"{table.done} of {table.runs} runs are done."
    if not table.rows:
        return note(done)
    questions = ", ".join(str(count) for count in table.test_questions)
    taus = ", ".join(f"{tau:.4g}" for tau in table.tau)
    return note(
        f"{done} Protocol {', '.join(table.protocol)}, split by {', '.join(table.split_by)}, "
        f"{questions} test questions, judge: {', '.join(table.judge)}, "
        f"tau: {taus}."
    )


def _notes(table: SweepTable) -> list[Note]:
    notes = [
        note(
            "Figures are per cent: mean over seeds, and in brackets the "
            f"{100 * table.confidence:g} % t interval. Every seed is asked the same test "
            "questions, so that the interval is about training and decoding; the sampling error "
            "of the questions is in each run's own report. One seed gives no interval; an "
            "interval that would pass 0 or 100 % is cut there."
        ),
        note(
            "Remaining drift: pairs with M0 on test questions that the audit confirms as drift. "
            "Reduction: against the same run's M_int."
        ),
    ]

    if table.measured_differently:
        sections = ", ".join(table.measured_differently)
        notes.append(
            note(
                f"Variants differ in {sections}: where that changes the questions, the decoding or "
                "the audit, their figures do not compare.",
                style="notice",
            )
        )
    return notes


def _plants(table: SweepTable) -> bool:
    """Tell whether a run of the sweep has planted faults to count."""
    return has_metric(table.rows, "planted")


def _planted_blocks(table: SweepTable) -> list[Block]:
    return [
        note(
            "Faults of known severity were planted in training targets, and are recognised in "
            "answers by their own words, without a scorer or judge. Shares are per cent of the "
            "answers to the test questions. Harm: the severities' numbers, 1 to 4, summed and "
            "divided by the number of answers, times 100. Reduction: against the same run's M_int."
        ),
        _planted_table(table),
        Figure(
            DOSE_RESPONSE,
            "The share of M_int's planted faults of a severity that M_DART still shows, against "
            "the mean loss weight of repairs to which the audit gave that severity; small marks "
            "are seeds",
            dose_response(table),
        ),
    ]


def _planted_table(table: SweepTable) -> Table:
    columns = metric_columns(_PLANTED_TITLES)
    rows = [metric_cells(row, _PLANTED_TITLES) for row in table.rows]
    return Table("sweep_planted", "Planted faults in test answers, per cent", columns, rows)


def _expectation_blocks(table: SweepTable) -> list[Block]:
    return [
        note(
            "These expectations stood in the sweep's file before it ran. Differences are paired by "
            "seed, in points (of what is no share, in its own unit), so that both sides have the "
            "same faults in the same benchmarks; one is told from noise where its interval leaves "
            "out zero. Nothing is corrected for the number of expectations."
        ),
        _expectations_table(table),
    ]


def _expectations_table(table: SweepTable) -> Table:
    columns = (
        Column("expected", "expected"),
        Column("seeds", "seeds", "count"),
        Column("difference", "difference", "interval"),
        Column("in_unit", "difference in its unit", "measure"),
        Column("finding", "finding"),
    )

    rows = []
    for tested in table.expectations:
        is_share = kind_of(tested.expectation.metric) == "interval"
        rows.append(
            {
                "expected": expectation_text(tested.expectation),
                "seeds": tested.difference.n,
                "difference" if is_share else "in_unit": tested.difference.estimate,
                "finding": tested.finding,
            }
        )
    caption = "What was expected, and found"
    return Table("sweep_expectations", caption, with_values(columns, rows), rows)


def expectation_text(expected: Expectation) -> str:
    """Write an expectation as its table does, such as `planted extreme: linear below uniform`."""
    return f"{_title_of(expected.metric)}: {expected.of} {expected.side} {expected.than}"


def _title_of(metric: str) -> str:
    """Name a metric in a sentence; a planted one says so, as its column does by its table."""
    if metric in _TITLES:
        return _TITLES[metric]
    return metric.replace("_", " ")


def _main_table(table: SweepTable) -> Table:
    titles = shown_titles(table.rows, _TITLES)
    rows = [metric_cells(row, titles) for row in table.rows]
    if table.shortcut is not None:
        shortcut = {"name": "shortcut baseline", "seeds": table.shortcut.n}
        rows.append({**shortcut, "accuracy": table.shortcut.estimate})
    caption = f"Sweep {table.name}, per cent over seeds"
    return Table("sweep", caption, metric_columns(titles), rows)


def _differences_table(table: SweepTable) -> Table:
    found = table.differences
    # Those of other answers stand beside their figures, in a section of their own.
    compared = {metric: _title_of(metric) for metric in COMPARED if metric not in COLLATERAL}
    titles = shown_titles(found.rows, compared)
    rows = [metric_cells(row, titles) for row in found.rows]
    caption = f"Each model less {found.to}, paired by seed, points"
    return Table("sweep_differences", caption, metric_columns(titles, f"minus {found.to}"), rows)


def _failures(table: SweepTable) -> Bullets:
    items = []
    for failure in table.failures:
        where = f"{failure.variant}, seed {failure.seed}, {failure.stage or 'before any stage'}"
        items.append(note(f"{where}: {failure.error}"))
    return Bullets(tuple(items))
