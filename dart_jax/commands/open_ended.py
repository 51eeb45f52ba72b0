"""Put the 280 open-ended queries to M0 and the repaired model; the judge grades the answers.

open_ended/answers/<model>.jsonl   what they say
open_ended/graded.jsonl            outcome of each answer, or the judge's failure
open_ended/summary.json            shares by model and domain, and the models compared
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from dart_jax.audit.drift import check_failures
from dart_jax.audit.grading import Ask
from dart_jax.audit.open_ended import (
    JudgedAnswer,
    Outcome,
    OutcomeReply,
    outcome_correction,
    outcome_messages,
    read_outcome,
)
from dart_jax.audit.screen import without_room
from dart_jax.commands.external_prompts import (
    adapter_hashes,
    answers_of,
    grade_missing,
    grading_inputs,
    identity_of,
    measured_inputs,
    plain,
    reported,
    spread,
    step,
)
from dart_jax.data.open_ended import OpenEndedQuery, load_open_ended
from dart_jax.evaluate.open_ended import (
    OPEN_ENDED,
    OpenEndedSummary,
    compare_outcomes,
    outcome_shares,
)
from dart_jax.pipeline.finished import check_base
from dart_jax.processes import on_primary
from dart_jax.records import Generation, JudgeFailure, write_text
from dart_jax.run_dir import ResultFile
from dart_jax.stages.context import Run
from dart_jax.summaries import to_pretty_json

GRADED = "open_ended/graded.jsonl"


def evaluate_open_ended(run: Run, candidates: Sequence[str], most: int | None) -> OpenEndedSummary:
    """Answer, grade, sum up; the report gets a section.

    Args:
        candidates: Models beside M0.
        most: Most queries, spread evenly over domains; None: all.

    Returns:
        The contents of `open_ended/summary.json`.

    Raises:
        TooManyFailures: The judge failed on more than `judge.max_failure_share` of the answers.
    """
    on_primary(lambda: check_base(run.folder, "distill", run.config))

    queries = spread(load_open_ended(), most, lambda query: query.domain, run.config.data.seed)
    prompts = {query.id: plain(query.query) for query in queries}
    answers = {name: answers_of(run, name, "open_ended", prompts) for name in ("M0", *candidates)}

    inputs = on_primary(
        lambda: {
            **grading_inputs(run),
            **measured_inputs(run, candidates, answers),
            "queries": identity_of(queries),
        }
    )

    work = partial(_grade, run, queries, answers)
    step(run, "open_ended", inputs, (GRADED, OPEN_ENDED), work)
    return reported(run, OPEN_ENDED, OpenEndedSummary)


def _grade(
    run: Run, queries: Sequence[OpenEndedQuery], answers: Mapping[str, Sequence[Generation]]
) -> None:
    by_id = {query.id: query for query in queries}
    answered = [a for found in answers.values() for a in found if a.had_room]
    graded = grade_missing(
        run,
        [_ask(by_id[answer.question_id], answer) for answer in answered],
        ResultFile(run.folder / GRADED, JudgedAnswer | JudgeFailure),
        lambda item: (item.model, item.query_id),
        OutcomeReply.model_json_schema(),
        outcome_correction,
        {"outcome": [outcome.value for outcome in Outcome]},
    )

    check_failures(graded, run.config.judge.max_failure_share)
    on_primary(lambda: _write_summary(run, queries, answers, graded))


def _ask(query: OpenEndedQuery, answer: Generation) -> Ask[JudgedAnswer]:
    def read(text: str, judge: str) -> JudgedAnswer | str:
        reply = read_outcome(text, query)
        if isinstance(reply, str):
            return reply
        outcome = Outcome(reply.outcome)
        return JudgedAnswer(query.id, answer.model, outcome, reply.passage, reply.reason, judge)

    return Ask(query.id, answer.model, outcome_messages(query, answer.text), read)


def _write_summary(
    run: Run,
    queries: Sequence[OpenEndedQuery],
    answers: Mapping[str, Sequence[Generation]],
    graded: Sequence[JudgedAnswer | JudgeFailure],
) -> None:
    # A query whose prompt left no room for an answer, under any of the models, is in no figure.
    left_out = without_room(*answers.values())
    answered = [query for query in queries if query.id not in left_out]
    of: dict[str, list[JudgedAnswer | JudgeFailure]] = {name: [] for name in answers}
    for item in graded:
        failed = isinstance(item, JudgeFailure)
        if (item.question_id if failed else item.query_id) not in left_out:
            of[item.candidate if failed else item.model].append(item)

    config = run.config.evaluate
    shares, tests = {}, {}
    for name, judged in of.items():
        shares[name] = outcome_shares(answered, judged, config, run.config.run.seed)
        if name != "M0":
            tests[name] = compare_outcomes(answered, of["M0"], judged)
    summary = OpenEndedSummary(
        queries=len(queries),
        no_room=len(left_out),
        adapters=adapter_hashes(run, [name for name in of if name != "M0"]),
        judge=graded[0].judge,
        confidence=config.confidence,
        models=shares,
        against_M0=tests,
    )
    write_text(run.folder / OPEN_ENDED, to_pretty_json(summary))
