"""Tabulate several runs: what each measured, and paired tests between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.evaluate.compare import ComparedRun, PairedRun
from dart_jax.evaluate.evaluators import AUDIT
from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Column, Table, with_values
from dart_jax.report.statistics import DIFFERENCE_COLUMNS, difference_cells
from dart_jax.summaries import Estimate

_SETTINGS = (
    Column("protocol", "protocol"),
    Column("split_by", "split"),
    Column("suite", "suite"),
    Column("model", "model"),
    Column("weighting", "weights"),
    Column("policy", "policy"),
    Column("seed", "seed", "count"),
    Column("train", "targets", "count"),
    Column("n", "n", "count"),
)
_ACCURACY = (
    Column("shortcut", "shortcut", "interval"),
    *(Column(name, name, "interval") for name in MODELS),
    Column("equal", "M_DART EQUAL", "interval"),
    Column("diff", "M_DART DIFF", "interval"),
)
_FORCED = (
    *(Column(f"forced_{name}", f"{name} forced", "interval") for name in MODELS),
    *(Column(f"auroc_{name}", f"{name} AUROC", "measure") for name in MODELS),
)
_DRIFT = (
    Column("drift_int", "drift M_int", "count"),
    Column("drift_dart", "drift M_DART", "count"),
    Column("reduction", "reduction, %", "interval"),
)
_PLANTED = (
    Column("planted_int", "planted M_int, %", "interval"),
    Column("planted_dart", "planted M_DART, %", "interval"),
    Column("planted_reduction", "planted reduction, %", "interval"),
)
_COLLATERAL = (
    Column("undrifted", "questions without drift", "count"),
    Column("undrifted_same", "same answer, %", "interval"),
    Column("undrifted_kl", "KL, nats a token", "measure"),
    Column("undrifted_longer", "longer by tokens", "pairs"),
    Column("drifted_same", "same answer with drift, %", "interval"),
)
# Each would fit a terminal; one table of all would not.
_PARTS = {
    "What was run": ("runs_settings", _SETTINGS),
    "Test accuracy by run, per cent": ("runs_accuracy", _ACCURACY),
    "Decisions forced after each analysis, by run": ("runs_forced", _FORCED),
    "Confirmed drift on test questions by run": ("runs_drift", _DRIFT),
    "Planted drift on test questions by run, told by its words": ("runs_planted", _PLANTED),
    "M_DART's answers beside M_int's where M_int had not drifted": ("runs_collateral", _COLLATERAL),
}


def runs_table(runs: Sequence[ComparedRun]) -> Table:
    """Tabulate the runs, a row each: what was measured and what came out, for CSV."""
    rows = [_row(run) for run in runs]
    columns = [Column("run", "run")]
    for _, of_part in _PARTS.values():
        columns += of_part
    for by in _evaluators(runs):
        columns += _evaluator_columns(by)
    caption = "Test accuracy and drift by run, per cent; protocol and split by row"
    return Table("runs", caption, with_values(columns, rows), rows)


def parts_of(runs: Sequence[ComparedRun], whole: Table) -> list[Table]:
    """Cut the table of runs into narrow ones; those of what no run measured are left out."""
    of_evaluators = {}
    for number, by in enumerate(_evaluators(runs), 1):
        caption = f"Drift on test questions by {by}{_dependent(runs, by)}"
        of_evaluators[caption] = (f"runs_evaluator_{number}", _evaluator_columns(by))

    settings = dict.fromkeys((row["protocol"], row["split_by"]) for row in whole.rows)
    measured = " and ".join(f"protocol {one}, split by {other}" for one, other in settings)

    parts = []
    for caption, (name, of_part) in {**_PARTS, **of_evaluators}.items():
        columns = with_values(of_part, whole.rows)
        if columns:
            columns = (Column("run", "run"), *columns)
            parts.append(Table(name, f"{caption}; {measured}", columns, whole.rows))
    return parts


def paired_table(paired: Sequence[PairedRun]) -> Table:
    """Compare M_int and M_DART of each run with those of the first, on the same questions."""
    rows = []
    for pair in paired:
        names = {"run": pair.run, "against": pair.against, "model": pair.model}
        rows.append({**difference_cells(pair.difference), **names})
    columns = (
        Column("run", "run"),
        Column("against", "against"),
        Column("model", "model"),
        *DIFFERENCE_COLUMNS,
    )
    caption = "Differences of test accuracy between runs on the same questions, points"
    return Table("paired", caption, columns, rows)


def _row(run: ComparedRun) -> dict[str, Any]:
    summary, config = run.summary, run.config
    m_dart = summary.models["M_DART"]
    row: dict[str, Any] = {
        "run": run.name,
        "protocol": summary.protocol,
        "split_by": summary.split_by,
        "suite": config["data"]["suite"],
        "model": config["model"]["path"].rstrip("/").split("/")[-1],
        "weighting": _weighting(config["repair"]),
        "policy": summary.policy.headline if summary.policy else "without",
        "seed": config["run"]["seed"],
        "train": run.targets,
        "n": summary.test_questions,
        "shortcut": summary.shortcut_baseline.estimate("accuracy"),
        "equal": m_dart.estimate("equal_accuracy"),
        "diff": m_dart.estimate("diff_accuracy"),
        "drift_int": summary.drift.M_int.confirmed,
        "drift_dart": summary.drift.M_DART.confirmed,
        "reduction": summary.drift.estimate,
    }
    for name in MODELS:
        metrics = summary.models[name]
        row[name] = metrics.estimate("accuracy")
        if metrics.forced_accuracy is not None:
            row[f"forced_{name}"] = metrics.forced_accuracy
            row[f"auroc_{name}"] = metrics.auroc

    planted = summary.planted
    if planted is not None:
        row["planted_int"] = planted.rates["M_int"]
        row["planted_dart"] = planted.rates["M_DART"]
        reduction = planted.reduction
        row["planted_reduction"] = Estimate(reduction.value, reduction.low, reduction.high)
    return row | _collateral_cells(summary) | _evaluator_cells(summary)


def _collateral_cells(summary: RunSummary) -> dict[str, Any]:
    found = summary.collateral
    if found is None:
        return {}
    without = found.not_drifted
    cells: dict[str, Any] = {"undrifted": without.n, "undrifted_same": without.same}
    if without.kl is not None:
        cells["undrifted_kl"] = without.kl
    return {**cells, "undrifted_longer": without.longer, "drifted_same": found.drifted.same}


def _evaluators(runs: Sequence[ComparedRun]) -> list[str]:
    """List the evaluators beside the audit that some run has, in order of appearance."""
    names = []
    for run in runs:
        names += [found.by for found in run.summary.drift_by if found.kind != AUDIT]
    return list(dict.fromkeys(names))


def _dependent(runs: Sequence[ComparedRun], by: str) -> str:
    """Name the runs in whose audit or repair an evaluator took part; '' where in none."""
    names = []
    for run in runs:
        names += [run.name for found in run.summary.drift_by if found.by == by and found.same_as]
    return f", not independent of the audit and the repair in {', '.join(names)}" if names else ""


def _evaluator_columns(by: str) -> tuple[Column, ...]:
    """Make an evaluator's columns; its name is in each, since CSV has all in one table."""
    columns = []
    for name in AUDITED:
        columns.append(Column(f"drift_{name} by {by}", f"drift {name}, %", "interval"))
        columns.append(Column(f"kappa_{name} by {by}", "kappa with the audit", "measure"))
    return (*columns, Column(f"reduction by {by}", "reduction, %", "interval"))


def _evaluator_cells(summary: RunSummary) -> dict[str, Any]:
    cells = {}
    for found in summary.drift_by:
        if found.kind == AUDIT:
            continue
        for name in AUDITED:
            rate = found.change.rates[name]
            cells[f"drift_{name} by {found.by}"] = Estimate(rate.value, rate.low, rate.high)
            cells[f"kappa_{name} by {found.by}"] = found.agreement[name].kappa
        reduction = found.change.reduction
        cells[f"reduction by {found.by}"] = Estimate(reduction.value, reduction.low, reduction.high)
    return cells


def _weighting(repair: Mapping[str, Any]) -> str:
    """Say how severity becomes a weight, as the configuration does: by name or by numbers."""
    if repair.get("weight_fn"):
        return repair["weight_fn"]
    weights = repair["severity_weights"]
    return weights if isinstance(weights, str) else "/".join(f"{weight:g}" for weight in weights)
