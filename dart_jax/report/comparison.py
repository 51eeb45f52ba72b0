"""Tabulate several runs: what each measured, and paired tests between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dart_jax.evaluate.compare import ComparedRun, PairedRun
from dart_jax.evaluate.models import MODELS
from dart_jax.report.document import Column, Table
from dart_jax.report.statistics import DIFFERENCE_COLUMNS, difference_cells

_COLUMNS = (
    Column("run", "run"),
    Column("protocol", "protocol"),
    Column("split_by", "split"),
    Column("suite", "suite"),
    Column("model", "model"),
    Column("weighting", "weights"),
    Column("policy", "policy"),
    Column("seed", "seed", "count"),
    Column("train", "targets", "count"),
    Column("n", "n", "count"),
    Column("shortcut", "shortcut", "interval"),
    *(Column(name, name, "interval") for name in MODELS),
    Column("equal", "M_DART EQUAL", "interval"),
    Column("diff", "M_DART DIFF", "interval"),
    Column("drift_int", "drift M_int", "count"),
    Column("drift_dart", "drift M_DART", "count"),
    Column("reduction", "reduction, %", "rate"),
)


def runs_table(runs: Sequence[ComparedRun]) -> Table:
    """Tabulate the runs, a row each: what was measured and what came out."""
    caption = "Test accuracy and drift by run, per cent; protocol and split by row"
    return Table("runs", caption, _COLUMNS, [_row(run) for run in runs])


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
        "reduction": summary.drift.reduction,
    }
    for name in MODELS:
        row[name] = summary.models[name].estimate("accuracy")
    return row


def _weighting(repair: Mapping[str, Any]) -> str:
    """Say how severity becomes a weight, as the configuration does: by name or by numbers."""
    weights = repair["severity_weights"]
    return weights if isinstance(weights, str) else "/".join(f"{weight:g}" for weight in weights)
