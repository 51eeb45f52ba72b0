"""Several runs in one table, and paired tests between those that answered the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.decisions import QuestionDecisions
from dart_jax.evaluate.run_tables import DIFFERENCE, difference_cells
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.significance import holm
from dart_jax.evaluate.statistics import accuracy_rows
from dart_jax.evaluate.summary import AUDITED, MODELS
from dart_jax.evaluate.tables import Column, Table

_HEADLINE = (
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


@dataclass(frozen=True)
class ComparedRun:
    """A finished run.

    Attributes:
        name: In the tables; unique among the runs compared.
        config: The resolved configuration, nested by section.
        summary: `evaluation/summary.json`.
        decisions: `evaluation/decisions.jsonl`.
        targets: Number of targets that the distill stage trained on.
    """

    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    decisions: Sequence[QuestionDecisions]
    targets: int


def headline_table(runs: Sequence[ComparedRun]) -> Table:
    """A row a run: what it measured and what came out."""
    caption = "Test accuracy and drift by run, per cent; protocol and split by row"
    return Table("runs", caption, _HEADLINE, [_row(run) for run in runs], {})


def differing(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Runs whose test questions are not those of the first, and how they differ."""
    first, *others = runs
    ours = _questions(first)
    found = {}
    for run in others:
        theirs = _questions(run)
        if theirs != ours:
            shared = len(theirs.items() & ours.items())
            found[run.name] = (
                f"{len(theirs)} test questions, {shared} of them among the {len(ours)} of "
                f"{first.name}"
            )
    return found


def paired_table(runs: Sequence[ComparedRun], config: EvaluateConfig, seed: int) -> Table | None:
    """M_int and M_DART of each run against those of the first, on the same questions.

    Runs with other test questions are left out; None where no other is left. Corrected after Holm
    over all rows.

    Args:
        config: Number of resamples and coverage.
        seed: Of the resampling.
    """
    first, *others = runs
    apart = differing(runs)
    rows = [
        {
            "model": model,
            "run": run.name,
            "against": first.name,
            **_compared(run, first, model, config, seed),
        }
        for run in others
        if run.name not in apart
        for model in AUDITED
    ]
    if not rows:
        return None
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    columns = (Column("run", "run"), Column("against", "against"), Column("model", "model"))
    caption = "Differences of test accuracy between runs on the same questions, points"
    return Table("paired", caption, (*columns, *DIFFERENCE), rows, {})


def _compared(
    run: ComparedRun, first: ComparedRun, model: str, config: EvaluateConfig, seed: int
) -> dict[str, Any]:
    correct = {
        "run": np.array([line.right(model) for line in run.decisions]),
        "first": np.array([line.right(model) for line in first.decisions]),
    }
    scenarios = np.array([f"{line.benchmark} {line.scenario_id}" for line in first.decisions])
    everything = [("all", "all", np.ones(len(scenarios), bool))]
    [row] = accuracy_rows(everything, correct, scenarios, [("run", "first")], config, seed)
    found = difference_cells(row["comparisons"][0])
    return {column.key: found[column.key] for column in DIFFERENCE}


def _questions(run: ComparedRun) -> dict[str, tuple[str, str, str]]:
    return {
        line.question_id: (line.text_digest, line.condition, line.scenario_id)
        for line in run.decisions
    }


def _row(run: ComparedRun) -> dict[str, Any]:
    summary, config = run.summary, run.config
    models, policy = summary["models"], summary["policy"]

    def accuracy(row: Mapping[str, Any], key: str = "accuracy") -> tuple[Any, Any]:
        return row[key], row["intervals"][key]

    return {
        "run": run.name,
        "protocol": summary["protocol"],
        "split_by": summary["split_by"],
        "suite": config["data"]["suite"],
        "model": config["model"]["path"].rstrip("/").split("/")[-1],
        "weighting": _weighting(config["repair"]),
        "policy": policy["headline"] if policy else "without",
        "seed": config["run"]["seed"],
        "train": run.targets,
        "n": models["M0"]["n"],
        SHORTCUT: accuracy(summary["shortcut_baseline"]),
        **{name: accuracy(models[name]) for name in MODELS},
        "equal": accuracy(models["M_DART"], "equal_accuracy"),
        "diff": accuracy(models["M_DART"], "diff_accuracy"),
        **{
            key: summary["drift"][name]["confirmed"]
            for key, name in (("drift_int", "M_int"), ("drift_dart", "M_DART"))
        },
        "reduction": summary["drift"]["reduction"],
    }


def _weighting(repair: Mapping[str, Any]) -> str:
    """How severity becomes a weight, as the configuration says it: by name or by numbers."""
    weights = repair["severity_weights"]
    return weights if isinstance(weights, str) else "/".join(f"{weight:g}" for weight in weights)
