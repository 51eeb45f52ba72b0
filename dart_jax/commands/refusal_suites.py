"""Measure on XSTest and OR-Bench what is refused, by the judge or by the rules for refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dart_jax.audit.drift import check_failures
from dart_jax.audit.grading import Ask
from dart_jax.audit.refusal_judge import (
    REFUSAL_TEXTS,
    GradedRefusal,
    RefusalReply,
    ask_refusal,
    refusal_by_rules,
    refusal_correction,
)
from dart_jax.audit.refusals import Refusal
from dart_jax.commands.external_prompts import grade_missing
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.refusal_error import measured_error
from dart_jax.evaluate.refusal_rates import refusal_rates
from dart_jax.processes import on_primary
from dart_jax.records import Generation, JudgeFailure, write_jsonl
from dart_jax.run_dir import ResultFile, hash_path
from dart_jax.stages.context import Run

REFUSAL_SUITES = ("xstest", "or_bench")

Graded = GradedRefusal | JudgeFailure
R = TypeVar("R")


def refusal_rubric() -> dict[str, str | None]:
    """Identify the wording of the judge's rubric for refusals."""
    return {"refusal rubric": hash_path(REFUSAL_TEXTS)}


def measure_refusal_suite(
    run: Run,
    place: str,
    prompts: Sequence[ExternalPrompt],
    answers: Mapping[str, Sequence[Generation]],
) -> dict[str, Any]:
    """Grade what was answered, and sum up.

    Returns:
        `refusals` by model, see `evaluate.refusal_rates`; without a judge also `refusal_error`, the
        measured error of the rules.

    Raises:
        TooManyFailures: The judge failed on more than `judge.max_failure_share` of the answers.
    """
    answered = [answer for found in answers.values() for answer in found if answer.had_room]
    text_of = {prompt.id: prompt.prompt for prompt in prompts}
    path = run.folder / f"{place}/responses.jsonl"

    if not run.config.audit.asks_judge:
        graded: list[Graded] = [
            refusal_by_rules(a.question_id, a.model, text_of[a.question_id], a.text)
            for a in answered
        ]
        on_primary(lambda: write_jsonl(path, graded))
        rates = rates_by_model(run, prompts, graded, list(answers), refusal_rates)
        return {"refusals": rates, "refusal_error": measured_error()}

    asks = [ask_refusal(a.question_id, a.model, text_of[a.question_id], a.text) for a in answered]
    graded = judge_refusals(run, asks, ResultFile(path, Graded))
    check_failures(graded, run.config.judge.max_failure_share)
    return {"refusals": rates_by_model(run, prompts, graded, list(answers), refusal_rates)}


def judge_refusals(
    run: Run, asks: Sequence[Ask[GradedRefusal]], file: ResultFile[Graded]
) -> list[Graded]:
    """Have the run's judge grade what the file holds no grade of."""
    return grade_missing(
        run,
        asks,
        file,
        lambda item: (item.model, item.prompt_id),
        RefusalReply.model_json_schema(),
        refusal_correction,
        {"refusal": [refusal.value for refusal in Refusal]},
    )


def rates_by_model(
    run: Run,
    prompts: Sequence[ExternalPrompt],
    graded: Sequence[Any],
    models: Sequence[str],
    rates_of: Callable[..., R],
) -> dict[str, R]:
    """Compute the rates by model; an answer on which the judge failed is in none of them.

    Args:
        graded: Grades with `model` and `prompt_id`, and failures of the judge.
        rates_of: Computes one model's, such as `evaluate.refusal_rates.refusal_rates`.
    """
    failed = dict.fromkeys(models, 0)
    found: dict[str, dict[str, Any]] = {name: {} for name in models}
    for item in graded:
        if isinstance(item, JudgeFailure):
            failed[item.candidate] += 1
        else:
            found[item.model][item.prompt_id] = item

    rates = {}
    for name, of_model in found.items():
        rates[name] = rates_of(
            [prompt for prompt in prompts if prompt.id in of_model],
            of_model,
            run.config.evaluate,
            run.config.run.seed,
            judge_failed=failed[name],
        )
    return rates
