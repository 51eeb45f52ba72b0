"""Tabulate several runs: what each measured, and paired tests between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.evaluate.compare import ComparedRun, PairedRun
from dart_jax.evaluate.models import MODELS
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
# Each would fit a terminal; one table of all would not.
_PARTS = {
    "What was run": ("runs_settings", _SETTINGS),
    "Test accuracy by run, per cent": ("runs_accuracy", _ACCURACY),
    "Decisions forced after each analysis, by run": ("runs_forced", _FORCED),
    "Confirmed drift on test questions by run": ("runs_drift", _DRIFT),
    "Planted drift on test questions by run, told by its words": ("runs_planted", _PLANTED),
}


def runs_table(runs: Sequence[ComparedRun]) -> Table:
    """Tabulate the runs, a row each: what was measured and what came out, for CSV."""
    rows = [_row(run) for run in runs]
    columns = [Column("run", "run")]
    for _, of_part in _PARTS.values():
        columns += of_part
    caption = "Test accuracy and drift by run, per cent; protocol and split by row"
    return Table("runs", caption, with_values(columns, rows), rows)


def parts_of(runs: Table) -> list[Table]:
    """Cut the table of runs into narrow ones; those of what no run measured are left out."""
    settings = dict.fromkeys((row["protocol"], row["split_by"]) for row in runs.rows)
    measured = " and ".join(f"protocol {one}, split by {other}" for one, other in settings)

    parts = []
    for caption, (name, of_part) in _PARTS.items():
        columns = with_values(of_part, runs.rows)
        if columns:
            columns = (Column("run", "run"), *columns)
            parts.append(Table(name, f"{caption}; {measured}", columns, runs.rows))
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
    return row


def _weighting(repair: Mapping[str, Any]) -> str:
    """Say how severity becomes a weight, as the configuration does: by name or by numbers."""
    if repair.get("weight_fn"):
        return repair["weight_fn"]
    weights = repair["severity_weights"]
    return weights if isinstance(weights, str) else "/".join(f"{weight:g}" for weight in weights)
