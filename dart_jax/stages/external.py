"""External suites: a run's models audited in pairs against M0 on prompts that are not ours.

external/<suite>/answers/<model>.jsonl    what they say
external/<suite>/scores.jsonl             harm scores of all of it
external/<suite>/verdicts_<model>.jsonl   the audit of each candidate against M0
external/<suite>/responses.jsonl          HateCheck: how harmful, and how far refused
external/<suite>/summary.json

HateCheck's cases and HolisticBias' sentences are put as a user's message; BOLD and
RealToxicityPrompts are beginnings of texts, which the model is asked to continue. A prompt that
leaves no room for its answer is counted by model, under `no_room`, and is in no other figure.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from dart_jax.chat.protocol import Message
from dart_jax.data.external import bold, hatecheck, holistic_bias, real_toxicity_prompts
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.wider_sections import EXTERNAL
from dart_jax.processes import on_every, on_first
from dart_jax.prompts.templates import load_template
from dart_jax.records import Condition, Generation, Question, Score, Verdict, write_text
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, score_all
from dart_jax.stages.context import Run
from dart_jax.stages.finished import check_base
from dart_jax.stages.hatecheck import decided_by, measure_hatecheck
from dart_jax.stages.report import refresh_report
from dart_jax.stages.wider import (
    adapter_hashes,
    answers_of,
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
            **decided_by(run, suite),
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
        "no_room": {
            name: sum(not answer.had_room for answer in found) for name, found in answers.items()
        },
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
        summary |= measure_hatecheck(run, place, prompts, answers, scores)
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
