"""Measure on HateCheck which answers harm and which refuse, by the judge or without one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dart_jax.audit.drift import check_failures
from dart_jax.audit.grading import Ask
from dart_jax.audit.refusals import Refusal, rules_digest
from dart_jax.audit.responses import (
    GradedResponse,
    ResponseReply,
    read_response,
    response_correction,
    response_messages,
    screen_response,
)
from dart_jax.commands.external_prompts import grade_missing, grading_inputs
from dart_jax.commands.refusal_suites import REFUSAL_SUITES, rates_by_model, refusal_rubric
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.hatecheck import hatecheck_rates
from dart_jax.evaluate.refusal_error import measured_error
from dart_jax.processes import on_primary
from dart_jax.records import Generation, JudgeFailure, Score, write_jsonl
from dart_jax.run_dir import ResultFile
from dart_jax.stages.context import Run

Graded = GradedResponse | JudgeFailure


def decided_by(run: Run, suite: str) -> dict[str, Any]:
    """Collect what verdicts and grades depend on besides the answers and their scores.

    That is the judge with the wording of its prompts; without one, of suites whose refusals are
    graded, the rules for refusals and their measured error.
    """
    if run.config.audit.asks_judge:
        rubric = refusal_rubric() if suite in REFUSAL_SUITES else {}
        return {**grading_inputs(run), **rubric}
    if suite not in ("hatecheck", *REFUSAL_SUITES):
        return {}
    return {"refusal rules": rules_digest(), "refusal error": asdict(measured_error())}


def measure_hatecheck(
    run: Run,
    place: str,
    prompts: Sequence[ExternalPrompt],
    answers: Mapping[str, Sequence[Generation]],
    scores: Sequence[Score],
) -> dict[str, Any]:
    """Grade what was answered, and sum up.

    Returns:
        `rates` by model (see `evaluate.hatecheck`), each with `judge_failed`; without a judge also
        `refusal_error`: the measured error of the rules that decided about refusals.
    """
    answered = [answer for found in answers.values() for answer in found if answer.had_room]
    if not run.config.audit.asks_judge:
        graded = _screened(run, place, prompts, answered, scores)
        return {
            "rates": rates_by_model(run, prompts, graded, list(answers), hatecheck_rates),
            "refusal_error": measured_error(),
        }
    graded = _judged(run, place, prompts, answered)
    check_failures(graded, run.config.judge.max_failure_share)
    return {"rates": rates_by_model(run, prompts, graded, list(answers), hatecheck_rates)}


def _screened(
    run: Run,
    place: str,
    prompts: Sequence[ExternalPrompt],
    answered: Sequence[Generation],
    scores: Sequence[Score],
) -> list[GradedResponse]:
    """Grade without a judge, by the highest harm score and the rules for refusals."""
    cases = {prompt.id: prompt.prompt for prompt in prompts}
    worst: dict[tuple[str, str], float] = defaultdict(float)
    for score in scores:
        key = (score.model, score.question_id)
        worst[key] = max(worst[key], score.value)

    graded = [
        screen_response(
            answer.question_id,
            answer.model,
            cases[answer.question_id],
            answer.text,
            worst[answer.model, answer.question_id],
        )
        for answer in answered
    ]

    on_primary(lambda: write_jsonl(run.folder / f"{place}/responses.jsonl", graded))
    return graded


def _judged(
    run: Run, place: str, prompts: Sequence[ExternalPrompt], answered: Sequence[Generation]
) -> list[Graded]:
    cases = {prompt.id: prompt.prompt for prompt in prompts}
    return grade_missing(
        run,
        [_ask(cases[answer.question_id], answer) for answer in answered],
        ResultFile(run.folder / f"{place}/responses.jsonl", Graded),
        lambda item: (item.model, item.prompt_id),
        ResponseReply.model_json_schema(),
        response_correction,
        {"harmful": (True, False), "refusal": [refusal.value for refusal in Refusal]},
    )


def _ask(case: str, answer: Generation) -> Ask[GradedResponse]:
    def read(text: str, judge: str) -> GradedResponse | str:
        reply = read_response(text)
        if isinstance(reply, str):
            return reply
        return GradedResponse(
            prompt_id=answer.question_id,
            model=answer.model,
            harmful=reply.harmful,
            refusal=Refusal(reply.refusal),
            passage=reply.passage,
            reason=reply.reason,
            judge=judge,
        )

    return Ask(answer.question_id, answer.model, response_messages(case, answer.text), read)
