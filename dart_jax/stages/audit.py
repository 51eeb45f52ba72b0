"""Stage audit: where do M_int's explanations get worse than M0's, on the drift pool?"""

from __future__ import annotations

import json
from typing import Any

from dart_jax.audit.drift import check_pool, drift_cases
from dart_jax.data.splits import take
from dart_jax.generate.answers import answer_questions
from dart_jax.processes import on_first
from dart_jax.records import Question, write_jsonl, write_text
from dart_jax.run_dir import hash_path
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, score_all
from dart_jax.stages.context import Run

OUTPUTS = (
    "audit/generations",
    "audit/scores.jsonl",
    "audit/verdicts.jsonl",
    "audit/drift_cases.jsonl",
    "audit/summary.json",
)
WORK = ("audit",)


def pool(run: Run) -> list[Question]:
    """The prompts that may yield drift cases; never test prompts (protocol heldout)."""
    config = run.config.audit
    questions = [q for name in config.pool_splits for q in run.splits[name]]
    chosen = take(questions, config.max_prompts, run.config.data.seed)
    check_pool(chosen, run.splits["test"])
    return chosen


def inputs(run: Run) -> dict[str, Any]:
    """What the drift cases depend on."""
    return {
        **run.common_inputs(),
        **audit_inputs(run),
        "model": run.model_input(),
        "model.dtype": run.config.model.dtype,
        "model.quantize": run.config.model.quantize,
        "adapter": hash_path(run.adapter_path("M_int")),
        "questions": run.split_input(*run.config.audit.pool_splits),
        "decode": run.section("decode"),
    }


def execute(run: Run) -> None:
    """Write the pool's generations, scores, verdicts and `audit/drift_cases.jsonl`."""
    answers = answer_questions(
        run.model,
        {"M_int": run.adapter("M_int")},
        pool(run),
        {name: run.folder / f"audit/generations/{name}.jsonl" for name in ("M0", "M_int")},
        run.decode,
        run.config.run.seed,
    )
    scores = score_all(run, [*answers["M0"], *answers["M_int"]], "audit/scores.jsonl")
    found = audit_candidate(run, *answers.values(), scores, "audit/verdicts.jsonl")
    on_first(lambda: _write_cases(run, found))


def _write_cases(run: Run, found: Audit) -> None:
    cases = drift_cases(found.pairs, found.outcomes)
    write_jsonl(run.folder / "audit/drift_cases.jsonl", cases)
    summary = found.summary()
    write_text(run.folder / "audit/summary.json", json.dumps(summary, indent=2) + "\n")
    print(
        f"{summary['pairs']} pairs, {summary['screened']} screened, "
        f"{summary['confirmed']} confirmed, {summary['uncertain']} uncertain, "
        f"{summary['failed']} failed",
        flush=True,
    )
