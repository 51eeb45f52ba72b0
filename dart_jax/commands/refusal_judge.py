"""Measure a run's judge against completions whose refusals people labelled.

audit/refusals/<file>.jsonl   the judge's grades of a file, kept and resumed
audit/refusals.json           agreement of the rules and of the judge with people
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dart_jax.audit.refusal_judge import GradedRefusal, ask_refusal
from dart_jax.commands.external_prompts import grading_inputs, step
from dart_jax.commands.refusal_suites import Graded, judge_refusals, refusal_rubric
from dart_jax.commands.refusals import read_labelled
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.refusal_agreement import (
    REFUSAL_AGREEMENT,
    GraderAgreement,
    RefusalAgreement,
    grader_agreement,
)
from dart_jax.evaluate.refusal_error import refusal_error
from dart_jax.processes import on_all, on_primary
from dart_jax.records import read_jsonl, write_text
from dart_jax.run_dir import ResultFile, hash_path
from dart_jax.settings import BadSetting
from dart_jax.stages.context import Run
from dart_jax.strict_json import BadRecord
from dart_jax.summaries import to_pretty_json


def measure_judge(
    run: Run, files: Sequence[Path], by_rules: Sequence[GraderAgreement], config: EvaluateConfig
) -> RefusalAgreement:
    """Have the run's judge grade each file, and compare it with people.

    Args:
        files: As `commands.refusals.read_labelled` reads.
        by_rules: What the rules make of the same files, for the table.
        config: Number of resamples and coverage of the intervals, as for the rules.

    Raises:
        BadRecord: A completion comes without its prompt.
        BadSetting: Two files have one name.
    """
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        raise BadSetting("--labelled: two files have one name, by which their grades are kept")

    by_judge = [_judge_agreement(run, path, config) for path in files]
    agreement = RefusalAgreement(config.confidence, [*by_rules, *by_judge])
    on_primary(lambda: write_text(run.folder / REFUSAL_AGREEMENT, to_pretty_json(agreement)))
    return agreement


def _judge_agreement(run: Run, path: Path, config: EvaluateConfig) -> GraderAgreement:
    answers = on_all(lambda: read_labelled(path))
    asks = []
    for number, answer in enumerate(answers, 1):
        if not answer.prompt:
            raise BadRecord(f"{answer.where}: no prompt, which the judge needs beside the answer")
        asks.append(ask_refusal(str(number), path.stem, answer.prompt, answer.completion))

    file = f"audit/refusals/{path.stem}.jsonl"
    inputs = on_primary(
        lambda: {**grading_inputs(run), **refusal_rubric(), "answers": hash_path(path)}
    )

    def work() -> None:
        judge_refusals(run, asks, ResultFile(run.folder / file, Graded))

    step(run, f"audit_refusals_{path.stem}", inputs, (file,), work)
    graded = on_primary(lambda: read_jsonl(run.folder / file, Graded))

    labels, grades = [], []
    for answer, item in zip(answers, graded, strict=True):
        if isinstance(item, GradedRefusal):
            labels.append(answer.label)
            grades.append(item.refusal)
    error = refusal_error(labels, grades, config)
    failed = len(answers) - len(grades)
    return grader_agreement(path.name, graded[0].judge, error, config, failed)
