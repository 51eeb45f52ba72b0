"""Paired tests between runs that answered the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.decisions import QuestionDecisions
from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.significance import holm
from dart_jax.evaluate.statistics import Difference, accuracy_rows
from dart_jax.evaluate.summary import RunSummary


@dataclass(frozen=True)
class ComparedRun:
    """A finished run, as far as a comparison reads it.

    Attributes:
        name: How the tables call it; unique among the runs compared.
        config: The resolved configuration, nested by section.
        summary: `evaluation/summary.json`.
        decisions: `evaluation/decisions.jsonl`.
        targets: Number of targets that the distill stage trained on.
    """

    name: str
    config: Mapping[str, Any]
    summary: RunSummary
    decisions: Sequence[QuestionDecisions]
    targets: int


@dataclass(frozen=True)
class PairedRun:
    """The difference between one model of a run and the same model of the first run."""

    run: str
    against: str
    model: str
    difference: Difference


def other_questions(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Name the runs whose test questions are not those of the first, with how they differ."""
    first, *others = runs
    first_questions = _questions(first)

    differences = {}
    for run in others:
        questions = _questions(run)
        if questions != first_questions:
            shared = len(questions.items() & first_questions.items())
            differences[run.name] = (
                f"{len(questions)} test questions, {shared} of them among the "
                f"{len(first_questions)} of {first.name}"
            )

    return differences


def paired_runs(runs: Sequence[ComparedRun], config: EvaluateConfig, seed: int) -> list[PairedRun]:
    """Test M_int and M_DART of each run against those of the first, on the same questions.

    Runs with other test questions are left out. The p-values are corrected after Holm over all
    rows.

    Args:
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.
    """
    first, *others = runs
    incomparable = other_questions(runs)

    rows = []
    for run in others:
        if run.name in incomparable:
            continue
        for model in AUDITED:
            difference = _compared(run, first, model, config, seed)
            rows.append(PairedRun(run.name, first.name, model, difference))

    # One family: each further run is one more chance of a low p-value.
    corrected = holm([row.difference.p for row in rows])
    return [
        replace(row, difference=replace(row.difference, p_holm=p))
        for row, p in zip(rows, corrected, strict=True)
    ]


def _compared(
    run: ComparedRun, first: ComparedRun, model: str, config: EvaluateConfig, seed: int
) -> Difference:
    # Paired by place: both files are in the order of the question ids, and the ids are equal.
    run_right = [line.right(model) for line in run.decisions]
    first_right = [line.right(model) for line in first.decisions]
    correct = {"run": np.array(run_right), "first": np.array(first_right)}
    # Scenario ids are unique within their benchmark only.
    scenarios = np.array([f"{line.benchmark} {line.scenario_id}" for line in first.decisions])

    everything = [("all", "all", np.ones(len(scenarios), bool))]
    [row] = accuracy_rows(everything, correct, scenarios, [("run", "first")], config, seed)
    return row.comparisons[0]


def _questions(run: ComparedRun) -> dict[str, tuple[str, str, str]]:
    # The text counts, not the id alone: own rows may keep their ids when they are rewritten.
    return {
        line.question_id: (line.text_digest, line.condition, line.scenario_id)
        for line in run.decisions
    }
