"""What a sweep leaves: `table.md`, `.csv`, `.tex`, `.json`, and the plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dart_jax.evaluate.console import aligned
from dart_jax.evaluate.markdown import escape, table
from dart_jax.evaluate.plots import accuracy_against_drift
from dart_jax.records import write_text
from dart_jax.run_dir import hash_path
from dart_jax.sweep.config import Sweep
from dart_jax.sweep.table import COMPARED, METRICS, Result, build_table, to_json

if TYPE_CHECKING:
    from dart_jax.sweep.commands import Failure

PLOT = "accuracy_vs_drift"
_COLUMNS = {
    "accuracy": "accuracy",
    "equal_accuracy": "EQUAL",
    "diff_accuracy": "DIFF",
    "unparseable_rate": "unparseable",
    "drift": "remaining drift",
    "drift_reduction": "reduction",
}
# A variant that differs in one of these is measured otherwise than the rest.
_MEASURED_BY = ("data", "decode", "audit", "judge", "evaluate")


def write_results(sweep: Sweep, complete: Sequence[int], failures: Sequence[Failure]) -> None:
    """Write the tables and the plot of the runs that are done.

    Args:
        complete: Their places in `sweep.runs`.
    """
    runs = [sweep.runs[number] for number in complete]
    results = [
        Result(
            run.variant,
            run.seed,
            json.loads((_folder(run) / "evaluation/summary.json").read_text(encoding="utf-8")),
            str(hash_path(_folder(run) / "adapters/M_int")),
        )
        for run in runs
    ]
    confidence = sweep.runs[0].config.evaluate.confidence
    found = {
        "name": sweep.name,
        "seeds": list(sweep.seeds),
        "runs": len(sweep.runs),
        "done": len(runs),
        "measured_differently": _differing(runs),
        "failures": [asdict(failure) for failure in failures],
        **build_table(results, sweep.variants, confidence),
    }
    for name, text in (
        ("table.json", to_json(found)),
        ("table.md", markdown(found)),
        ("table.csv", csv_text(found)),
        ("table.tex", latex(found)),
    ):
        write_text(sweep.out / name, text)
    for kind in ("png", "svg"):
        accuracy_against_drift(found, sweep.out / f"{PLOT}.{kind}")


def _folder(run: Any) -> Path:
    return Path(run.config.run.root) / run.config.run.name


def _differing(runs: Sequence[Any]) -> list[str]:
    """Sections by which something is measured and in which variants differ."""
    return [
        section
        for section in _MEASURED_BY
        if len({json.dumps(run.config.to_dict()[section], default=str) for run in runs}) > 1
    ]


def cell(stat: Mapping[str, Any], sign: str = "±", plus: bool = False) -> str:
    """`61.3 ± 2.1` in per cent; without an interval the mean alone, `n/a` over no values."""
    if stat["mean"] is None:
        return "n/a"
    mean = f"{100 * stat['mean']:{'+' if plus else ''}.1f}"
    return mean if stat["low"] is None else f"{mean} {sign} {50 * (stat['high'] - stat['low']):.1f}"


def rows_of(found: Mapping[str, Any], sign: str = "±") -> tuple[list[str], list[list[str]]]:
    """Header and cells of the main table, as plain text."""
    header = ["model", "seeds", *_COLUMNS.values()]
    rows = [
        [
            row["name"],
            str(row["metrics"]["accuracy"]["n"]),
            *(cell(row["metrics"][metric], sign) for metric in _COLUMNS),
        ]
        for row in found["rows"]
    ]
    if found["shortcut"]:
        shortcut = found["shortcut"]
        blank = [""] * (len(header) - 3)
        rows.append(["shortcut baseline", str(shortcut["n"]), cell(shortcut, sign), *blank])
    return header, rows


def _differences(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the paired differences; no rows where there are none."""
    compared = found["differences"]
    if not compared or not compared["rows"]:
        return [], []
    header = [f"minus {compared['to']}", "seeds", *(_COLUMNS[metric] for metric in COMPARED)]
    return header, [
        [
            row["name"],
            str(row["metrics"]["accuracy"]["n"]),
            *(cell(row["metrics"][metric], plus=True) for metric in COMPARED),
        ]
        for row in compared["rows"]
    ]


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = [f"{found['done']} of {found['runs']} runs are done."]
    if not found["rows"]:
        return notes
    notes[0] += (
        f" Protocol {', '.join(found['protocol'])}, split by {', '.join(found['split_by'])}, "
        f"{', '.join(map(str, found['test_questions']))} test questions, "
        f"judge: {', '.join(found['judge'])}."
    )
    notes.append(
        "Figures are per cent: mean over seeds ± half of the "
        f"{100 * found['confidence']:g} % t interval. Every seed is asked the same test questions, "
        "so that the interval is about training and decoding; the sampling error of the questions "
        "is in each run's own report. One seed gives no interval."
    )
    notes.append(
        "Remaining drift: pairs with M0 on test questions that the audit confirms as drift. "
        "Reduction: against the same run's M_int."
    )
    if found["measured_differently"]:
        notes.append(
            f"Variants differ in {', '.join(found['measured_differently'])}: where that changes "
            "the questions, the decoding or the audit, their figures do not compare."
        )
    return notes


def markdown(found: Mapping[str, Any]) -> str:
    """The page of the sweep."""
    header, rows = rows_of(found)
    parts = [f"# Sweep {escape(found['name'])}", " ".join(_notes(found)[:1])]
    if rows:
        parts += [table(header, _escaped(rows)), *_notes(found)[1:]]
        parts.append(f"![Accuracy against remaining drift]({PLOT}.png)")
    header, rows = _differences(found)
    if rows:
        parts.append(
            "## Differences, paired by seed\n\n" + table(_escaped([header])[0], _escaped(rows))
        )
    if found["failures"]:
        lines = [
            f"- {escape(f['variant'])}, seed {f['seed']}, {f['stage'] or 'before any stage'}: "
            f"{escape(f['error'])}"
            for f in found["failures"]
        ]
        parts.append("## Failed\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _escaped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escape(name) for name in row[:1]] + list(row[1:]) for row in rows]


def csv_text(found: Mapping[str, Any]) -> str:
    """One line a row and metric; rates in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("name", "model", "metric", "seeds", "mean", "low", "high"))
    for row in found["rows"]:
        for metric in METRICS:
            stat = row["metrics"][metric]
            figures = ["" if stat[key] is None else stat[key] for key in ("mean", "low", "high")]
            writer.writerow((row["name"], row["model"], metric, stat["n"], *figures))
    return out.getvalue()


def latex(found: Mapping[str, Any]) -> str:
    """The main table, for booktabs."""
    header, rows = rows_of(found, sign=r"\pm")
    marks = {ord(mark): f"\\{mark}" for mark in "&%$#_{}"} | {ord("\\"): r"\textbackslash{}"}
    lines = [
        " & ".join(
            [row[0].translate(marks), *(c if c in ("", "n/a") else f"${c}$" for c in row[1:])]
        )
        for row in rows
    ]
    return "\n".join(
        (
            f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *(line + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        )
    )


def results_text(out: Path) -> str:
    """The main table and what failed, for a terminal."""
    found = json.loads((out / "table.json").read_text(encoding="utf-8"))
    header, rows = rows_of(found)
    parts = [aligned([header, *rows])] if rows else []
    parts += [
        f"failed: {f['variant']}, seed {f['seed']}, {f['stage'] or 'start'}: {f['error']}"
        for f in found["failures"]
    ]
    return "\n".join([*parts, f"{found['done']} of {found['runs']} runs done: {out / 'table.md'}"])
