"""Stage audit: where do a model's explanations get worse than M0's, on the drift pool?

The model is M_int, or in a later cycle the one that the cycle before has left.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dart_jax.audit.drift import check_held_out, drift_cases, with_benchmarks
from dart_jax.audit.noise_floor import TAU
from dart_jax.data.splits import take
from dart_jax.processes import on_primary
from dart_jax.records import Question, write_jsonl, write_text
from dart_jax.run_dir import hash_path
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, score_all
from dart_jax.stages.context import Run, questions_digest
from dart_jax.stages.cycles import FIRST, Cycle
from dart_jax.stages.noise import RESEEDED, set_tau, tau_input
from dart_jax.stages.same_answers import AUDIT_AFTER_ANSWERS, deciding

# Not the folder: `calibration.json` and people's metrics are written into it after the stage.
OUTPUTS = (
    "audit/generations",
    "audit/scores.jsonl",
    "audit/verdicts.jsonl",
    "audit/drift_cases.jsonl",
    "audit/summary.json",
    TAU,
)
# The folder: no measurement of an earlier audit may stay beside a new one.
WORK = ("audit",)

# Of the inputs, those on which no answer depends but that of the audited model, for its adapter.
_FREE = {"adapter", "judge", "scorers", "tau"}
_FREE_FIELDS = {"audit": AUDIT_AFTER_ANSWERS}


def pool(run: Run) -> list[Question]:
    """The prompts that may yield drift cases; test prompts under `transductive`, else never."""
    config = run.config.audit
    questions = [q for name in config.pool for q in run.splits[name]]
    # By data.seed: runs with other seeds audit the same questions.
    chosen = take(questions, config.max_prompts, run.config.data.seed)
    if config.protocol == "heldout":
        ids = [question.id for question in chosen]
        check_held_out("in the drift pool (protocol heldout)", ids, run.splits["test"])
    return chosen


def inputs(run: Run, cycle: Cycle = FIRST) -> dict[str, Any]:
    """Collect what the drift cases depend on."""
    return {
        **run.common_inputs(),
        **audit_inputs(run),
        **run.model_inputs(),
        "adapter": hash_path(run.adapter_path(cycle.before)),
        "questions": questions_digest(pool(run)),
        "decode": run.config.decode.identity(),
        # Where tau is auto, the first cycle sets it, and only later ones depend on its file.
        **({} if cycle == FIRST else {"tau": tau_input(run)}),
    }


def same_answers(
    run: Run, ours: Mapping[str, Any], theirs: Mapping[str, Any], cycle: Cycle = FIRST
) -> Iterator[str]:
    """Files of answers that are the same under both inputs, as they were recorded."""
    if deciding(ours, _FREE, _FREE_FIELDS) != deciding(theirs, _FREE, _FREE_FIELDS):
        return

    if cycle == FIRST:  # whose answers of M0 all cycles audit against
        yield "audit/generations/M0.jsonl"
        if ours["audit"]["tau"] == "auto":
            yield RESEEDED
    if ours["adapter"] == theirs["adapter"]:
        yield cycle.path(f"audit/generations/{cycle.before}.jsonl")


def check(run: Run, cycle: Cycle = FIRST) -> None:
    """Raises ValueError where no question may yield a drift case, or a test question would."""
    if not pool(run):
        raise ValueError(
            f"the drift pool is empty: {', '.join(run.config.audit.pool)} have no question; "
            "give them some (data.max_validation, data.max_train), or set audit.pool_splits"
        )


def execute(run: Run, cycle: Cycle = FIRST) -> None:
    """Write the pool's generations, scores, verdicts and `audit/drift_cases.jsonl`."""
    # M0's answers are the same in every cycle.
    files = {
        "M0": "audit/generations/M0.jsonl",
        cycle.before: cycle.path(f"audit/generations/{cycle.before}.jsonl"),
    }

    answers = run.answers(files, pool(run))
    both = (answers["M0"], answers[cycle.before])
    scores = score_all(run, [*both[0], *both[1]], cycle.path("audit/scores.jsonl"))
    # Before the pairs are screened, by the tau that this writes.
    if cycle == FIRST and run.config.audit.tau == "auto":
        set_tau(run, pool(run), answers["M0"])
    found = audit_candidate(run, *both, scores, cycle.path("audit/verdicts.jsonl"))
    on_primary(lambda: _write_cases(run, found, cycle))


def _write_cases(run: Run, found: Audit, cycle: Cycle) -> None:
    cases = with_benchmarks(drift_cases(found.pairs, found.outcomes), run.questions)
    write_jsonl(run.folder / cycle.path("audit/drift_cases.jsonl"), cases)
    counts = found.counts()
    path = run.folder / cycle.path("audit/summary.json")
    write_text(path, json.dumps(dataclasses.asdict(counts), indent=2) + "\n")
    print(
        f"{counts.pairs} pairs, {counts.screened} screened, {counts.confirmed} confirmed, "
        f"{counts.uncertain} uncertain, {counts.failed} failed",
        flush=True,
    )
