"""Audit a run's models in pairs against M0 on the prompts of external suites.

external/<suite>/answers/<model>.jsonl    what they say
external/<suite>/scores.jsonl             harm scores of all of it
external/<suite>/verdicts_<model>.jsonl   the audit of each candidate against M0
external/<suite>/responses.jsonl          how far refused; HateCheck: how harmful, too
external/<suite>/summary.json

BOLD and RealToxicityPrompts are beginnings of texts, which the model is asked to continue; the
prompts of other suites are put as a user's message. A prompt that
leaves no room for its answer is counted by model, under `no_room`, and is in no other figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from dart_jax.chat.protocol import Message
from dart_jax.commands.external_prompts import (
    adapter_hashes,
    answers_of,
    identity_of,
    measured_inputs,
    plain,
    reported,
    spread,
    step,
)
from dart_jax.commands.hatecheck import decided_by, measure_hatecheck
from dart_jax.commands.refusal_suites import REFUSAL_SUITES, measure_refusal_suite
from dart_jax.data.external import (
    bold,
    hatecheck,
    holistic_bias,
    or_bench,
    real_toxicity_prompts,
    xstest,
)
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.external import (
    EXTERNAL,
    ExternalSummary,
    PartCounts,
    count_parts,
    mean_scores,
)
from dart_jax.pipeline.finished import check_base
from dart_jax.processes import on_all, on_primary
from dart_jax.prompts.templates import load_template
from dart_jax.records import Condition, Generation, Question, Verdict, write_text
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, judge_name, score_all
from dart_jax.stages.context import Run
from dart_jax.stages.noise import tau_input
from dart_jax.summaries import to_pretty_json


def load_external(suite: str, folder: Path) -> Iterable[ExternalPrompt]:
    """Read a suite's prompts from its public files. Raises as its loader does."""
    if suite == "holistic_bias":
        return holistic_bias.sentences(folder)
    loaders = {
        "hatecheck": hatecheck.load,
        "bold": bold.load,
        "real_toxicity_prompts": real_toxicity_prompts.load,
        "xstest": xstest.load,
        "or_bench": or_bench.load,
    }
    return loaders[suite](folder)


def evaluate_external(
    run: Run, suite: str, folder: Path, candidates: Sequence[str], most: int | None
) -> ExternalSummary:
    """Answer, score, audit each candidate against M0, sum up; the report gets a section.

    Args:
        folder: Where the suite's public files are.
        candidates: Models beside M0.
        most: Most prompts, spread evenly over functionalities; None: all.

    """
    on_primary(lambda: check_base(run.folder, "distill", run.config))
    everything = on_all(lambda: list(load_external(suite, folder)))
    prompts = spread(everything, most, lambda p: p.functionality, run.config.data.seed)
    place = f"external/{suite}"

    messages = {prompt.id: messages_of(prompt) for prompt in prompts}
    answers = {name: answers_of(run, name, place, messages) for name in ("M0", *candidates)}

    inputs = on_primary(
        lambda: {
            **audit_inputs(run),
            **decided_by(run, suite),
            **measured_inputs(run, candidates, answers),
            "tau": tau_input(run),
            "suite": identity_of(prompts),
            "of": len(everything),
        }
    )

    outputs = [f"{place}/{name}" for name in ("scores.jsonl", "responses.jsonl", "summary.json")]
    outputs += [_verdicts(place, name) for name in candidates]

    work = partial(_audit, run, place, prompts, len(everything), answers)
    step(run, place.replace("/", "_"), inputs, outputs, work)

    return reported(run, EXTERNAL.format(suite=suite), ExternalSummary)


def messages_of(prompt: ExternalPrompt) -> tuple[Message, ...]:
    """Put a prompt as a model is given it."""
    if prompt.suite in ("bold", "real_toxicity_prompts"):
        return plain(load_template("external_continue").substitute(text=prompt.prompt))
    return plain(prompt.prompt)


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
    questions = {p.id: Question(p.id, p.suite, Condition.EQUAL, p.prompt, 0, "") for p in prompts}
    scores = score_all(run, everything, f"{place}/scores.jsonl", questions)
    audits = {
        name: audit_candidate(run, answers["M0"], found, scores, _verdicts(place, name), questions)
        for name, found in answers.items()
        if name != "M0"
    }

    no_room = {}
    for name, found in answers.items():
        no_room[name] = sum(not answer.had_room for answer in found)

    graded = {}
    if prompts[0].suite == "hatecheck":
        graded = measure_hatecheck(run, place, prompts, answers, scores)
    elif prompts[0].suite in REFUSAL_SUITES:
        graded = measure_refusal_suite(run, place, prompts, answers)

    summary = ExternalSummary(
        suite=prompts[0].suite,
        prompts=len(prompts),
        of=of,
        no_room=no_room,
        adapters=adapter_hashes(run, list(audits)),
        mode=run.config.audit.mode,
        judge=judge_name(run),
        confidence=run.config.evaluate.confidence,
        mean_score=mean_scores(scores),
        drift={name: audit.counts() for name, audit in audits.items()},
        drift_by_functionality=_by_part(prompts, audits, "functionality"),
        drift_by_group=_by_part(prompts, audits, "group"),
        **graded,
    )
    path = run.folder / f"{place}/summary.json"
    on_primary(lambda: write_text(path, to_pretty_json(summary)))


def _by_part(
    prompts: Sequence[ExternalPrompt], audits: Mapping[str, Audit], key: str
) -> dict[str, dict[str, PartCounts]]:
    found = {}
    for name, audit in audits.items():
        confirmed = [o for o in audit.outcomes if isinstance(o, Verdict) and o.drift]
        ids = {
            "pairs": [pair.question_id for pair in audit.pairs],
            "screened": [pair.question_id for pair in audit.screened],
            "confirmed": [verdict.question_id for verdict in confirmed],
        }
        found[name] = count_parts(prompts, key, ids)
    return found
