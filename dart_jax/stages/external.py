"""External suites: a run's models audited in pairs against M0 on prompts that are not ours.

external/<suite>/answers/<model>.jsonl    what they say
external/<suite>/scores.jsonl             harm scores of all of it
external/<suite>/verdicts_<model>.jsonl   the audit of each candidate against M0
external/<suite>/responses.jsonl          HateCheck: refused, harmful or acceptable
external/<suite>/summary.json

HateCheck's cases and HolisticBias' sentences are put as a user's message; BOLD and
RealToxicityPrompts are beginnings of texts, which the model is asked to continue.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from dart_jax.audit.drift import check_failures
from dart_jax.audit.grading import Ask
from dart_jax.audit.responses import (
    GradedResponse,
    Response,
    ResponseReply,
    read_response,
    response_correction,
    response_messages,
    screen_response,
)
from dart_jax.chat.protocol import Message
from dart_jax.data.external import bold, hatecheck, holistic_bias, real_toxicity_prompts
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.hatecheck import hatecheck_rates
from dart_jax.evaluate.wider_sections import EXTERNAL
from dart_jax.processes import on_every, on_first
from dart_jax.prompts.templates import load_template
from dart_jax.records import (
    Condition,
    Generation,
    JudgeFailure,
    Question,
    Score,
    Verdict,
    write_jsonl,
    write_text,
)
from dart_jax.run_dir import ResultFile
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, score_all
from dart_jax.stages.context import Run
from dart_jax.stages.finished import check_base
from dart_jax.stages.report import refresh_report
from dart_jax.stages.wider import (
    adapter_hashes,
    answers_of,
    grade_missing,
    grading_inputs,
    identity_of,
    plain,
    spread,
    step,
)

SUITES = ("hatecheck", "bold", "holistic_bias", "real_toxicity_prompts")


def load_external(suite: str, folder: Path) -> Iterable[ExternalPrompt]:
    """A suite's prompts from its public files. Raises as its loader does."""
    if suite == "holistic_bias":
        return holistic_bias.sentences(folder)
    loaders = {
        "hatecheck": hatecheck.load,
        "bold": bold.load,
        "real_toxicity_prompts": real_toxicity_prompts.load,
    }
    return loaders[suite](folder)


def evaluate_external(
    run: Run, suite: str, folder: Path, candidates: Sequence[str], most: int | None
) -> dict[str, Any]:
    """Answer, score, audit each candidate against M0, sum up; the report gets a section.

    Args:
        folder: Where the suite's public files are.
        candidates: Models beside M0.
        most: Most prompts, spread evenly over functionalities; None: all.

    Returns:
        The contents of `external/<suite>/summary.json`.
    """
    on_first(lambda: check_base(run.folder, "repair", run.config))
    everything = on_every(lambda: list(load_external(suite, folder)))
    prompts = spread(everything, most, lambda p: p.functionality, run.config.data.seed)
    place = f"external/{suite}"
    messages = {prompt.id: messages_of(prompt) for prompt in prompts}
    answers = {name: answers_of(run, name, place, messages) for name in ("M0", *candidates)}
    inputs = on_first(
        lambda: {
            **audit_inputs(run),
            **({} if run.config.audit.mode == "screen_only" else grading_inputs(run)),
            "run.seed": run.config.run.seed,
            "suite": identity_of(prompts),
            "of": len(everything),
            "adapters": adapter_hashes(run, candidates),
            "answers": {name: identity_of(found) for name, found in answers.items()},
            "evaluate": run.section("evaluate"),
        }
    )
    outputs = [f"{place}/{name}" for name in ("scores.jsonl", "responses.jsonl", "summary.json")]
    outputs += [_verdicts(place, name) for name in candidates]
    work = partial(_audit, run, place, prompts, len(everything), answers)
    step(run, place.replace("/", "_"), inputs, outputs, work)
    on_first(lambda: refresh_report(run.folder))
    path = run.folder / EXTERNAL.format(suite=suite)
    return on_first(lambda: json.loads(path.read_text(encoding="utf-8")))


def messages_of(prompt: ExternalPrompt) -> tuple[Message, ...]:
    """How a prompt is put to a model."""
    if prompt.suite in ("hatecheck", "holistic_bias"):
        return plain(prompt.prompt)
    return plain(load_template("external_continue").substitute(text=prompt.prompt))


def _verdicts(place: str, name: str) -> str:
    return f"{place}/verdicts_{name}.jsonl"


def _audit(
    run: Run,
    place: str,
    prompts: Sequence[ExternalPrompt],
    of: int,
    answers: Mapping[str, Sequence[Generation]],
) -> None:
    everything = [answer for found in answers.values() for answer in found]
    scores = score_all(run, everything, f"{place}/scores.jsonl")
    questions = {p.id: Question(p.id, p.suite, Condition.EQUAL, p.prompt, 0, "") for p in prompts}
    audits = {
        name: audit_candidate(run, answers["M0"], found, scores, _verdicts(place, name), questions)
        for name, found in answers.items()
        if name != "M0"
    }
    summary = {
        "suite": prompts[0].suite,
        "prompts": len(prompts),
        "of": of,
        "adapters": adapter_hashes(run, list(audits)),
        "mode": run.config.audit.mode,
        "judge": "none" if run.config.audit.mode == "screen_only" else run.config.judge.provider,
        "confidence": run.config.evaluate.confidence,
        "mean_score": _mean_scores(scores),
        "drift": {name: audit.summary() for name, audit in audits.items()},
        **{
            f"drift_by_{key}": {name: _by(prompts, audit, key) for name, audit in audits.items()}
            for key in ("functionality", "group")
        },
    }
    if prompts[0].suite == "hatecheck":
        summary["rates"] = _rates(run, place, prompts, answers, scores)
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    on_first(lambda: write_text(run.folder / f"{place}/summary.json", text))


def _mean_scores(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Mean harm score by model and scorer."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        values[score.model][score.scorer].append(score.value)
    return {
        model: {scorer: fmean(found) for scorer, found in by_scorer.items()}
        for model, by_scorer in values.items()
    }


def _by(prompts: Sequence[ExternalPrompt], audit: Audit, key: str) -> dict[str, dict[str, int]]:
    """Pairs, screened and confirmed by functionality or group."""
    value = {prompt.id: getattr(prompt, key) for prompt in prompts}
    counts = {
        name: {"pairs": 0, "screened": 0, "confirmed": 0} for name in sorted(set(value.values()))
    }
    for pair in audit.pairs:
        counts[value[pair.question_id]]["pairs"] += 1
    for pair in audit.screened:
        counts[value[pair.question_id]]["screened"] += 1
    for outcome in audit.outcomes:
        if isinstance(outcome, Verdict) and outcome.drift:
            counts[value[outcome.question_id]]["confirmed"] += 1
    return counts


def _rates(
    run: Run,
    place: str,
    prompts: Sequence[ExternalPrompt],
    answers: Mapping[str, Sequence[Generation]],
    scores: Sequence[Score],
) -> dict[str, Any]:
    """HateCheck's rates by model; a case on which the judge failed is in none of them."""
    graded = _responses(run, place, prompts, answers, scores)
    check_failures(graded, run.config.judge.max_failure_share)
    found: dict[str, dict[str, Response]] = {name: {} for name in answers}
    for item in graded:
        if not isinstance(item, JudgeFailure):
            found[item.model][item.prompt_id] = item.response
    return {
        name: {
            "judge_failed": len(prompts) - len(responses),
            **hatecheck_rates(
                [prompt for prompt in prompts if prompt.id in responses],
                responses,
                run.config.evaluate,
                run.config.run.seed,
            ),
        }
        for name, responses in found.items()
    }


def _responses(
    run: Run,
    place: str,
    prompts: Sequence[ExternalPrompt],
    answers: Mapping[str, Sequence[Generation]],
    scores: Sequence[Score],
) -> Sequence[GradedResponse | JudgeFailure]:
    everything = [answer for found in answers.values() for answer in found]
    path = run.folder / f"{place}/responses.jsonl"
    if run.config.audit.mode != "screen_only":
        texts = {prompt.id: prompt.prompt for prompt in prompts}
        return grade_missing(
            run,
            [_ask(texts[answer.question_id], answer) for answer in everything],
            ResultFile(path, GradedResponse | JudgeFailure),
            lambda item: (item.model, item.prompt_id),
            ResponseReply.model_json_schema(),
            response_correction,
            "response",
            [response.value for response in Response],
        )
    worst: dict[tuple[str, str], float] = defaultdict(float)
    for score in scores:
        key = (score.model, score.question_id)
        worst[key] = max(worst[key], score.value)
    graded = [
        screen_response(a.question_id, a.model, a.text, worst[a.model, a.question_id])
        for a in everything
    ]
    on_first(lambda: write_jsonl(path, graded))
    return graded


def _ask(case: str, answer: Generation) -> Ask[GradedResponse]:
    def read(text: str, judge: str) -> GradedResponse | str:
        reply = read_response(text)
        if isinstance(reply, str):
            return reply
        response = Response(reply.response)
        return GradedResponse(
            answer.question_id, answer.model, response, reply.passage, reply.reason, judge
        )

    return Ask(answer.question_id, answer.model, response_messages(case, answer.text), read)
