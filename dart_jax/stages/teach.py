"""Stage teach: a label-conditioned rationale for every training question."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from dart_jax.data.mini_suite import MINI_DIR
from dart_jax.data.suites import custom_items
from dart_jax.processes import on_primary
from dart_jax.records import Question, RejectedTarget, Target, digest, write_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.stages.context import Run
from dart_jax.stages.providers import own_texts
from dart_jax.stages.targets import collect_targets, label_questions, reject_counts
from dart_jax.teach.distill import distill_requests
from dart_jax.teach.from_file import check_rationales
from dart_jax.teach.planted import PLANTED, TARGETS, UNPLANTED
from dart_jax.teach.planting import plant_faults
from dart_jax.teach.reading import VERSION
from dart_jax.teach.rules import RULE_TEXTS

# Targets before faults are planted in them, so that a stopped stage plants none twice.
CLEAN = "clean_targets.jsonl"

OUTPUTS = (TARGETS, "teach/rejected.jsonl", "teach/labels.jsonl", PLANTED, UNPLANTED)
WORK = (f"teach/{CLEAN}",)


def inputs(run: Run) -> dict[str, Any]:
    """Collect what the targets depend on."""
    # Only then, so that targets of runs that train M_int stay as they are.
    unasked = {} if _asked(run) else {"asked": False}
    return {
        **run.common_inputs(),
        **unasked,
        "questions": run.split_input("train"),
        "teacher": teacher_input(run),
        "own": own_input(run),
        **run.planting_inputs(),
    }


def teacher_input(run: Run) -> dict[str, Any]:
    """Identify the teacher: settings that can change a target; its texts, its model."""
    config = run.config.teacher
    found = config.identity()
    # Worked examples come from the mini suite, whoever the teacher is.
    if config.provider == "file" or config.examples > 0:
        found["texts"] = hash_path(MINI_DIR)
    if config.provider == "rules":
        found |= {"phrasings": hash_path(RULE_TEXTS), "reading": VERSION}
    if config.provider == "local":
        found |= run.model_inputs(config.model)
        # Temperature and length of its answers are the teacher's own settings.
        found["decode"] = {"top_p": run.config.decode.top_p, "top_k": run.config.decode.top_k}
    return found


def own_input(run: Run) -> str:
    """Hash of what a suite of your own says beside its questions: completions and weights."""
    return digest([dataclasses.asdict(item) for item in custom_items(run.config.data)])


def _asked(run: Run) -> list[Question]:
    """List the questions that need a target: none where no target is trained on or replayed."""
    if run.config.model.given is not None and run.config.repair.replay == 0:
        return []
    return run.splits["train"]


def as_written(run: Run) -> tuple[list[Question], list[Question]]:
    """Training questions whose target is their completion as it is, and the others.

    Those are the unlabelled rows of own data that have one.
    """
    has_text = {i.question.id for i in custom_items(run.config.data) if i.rationale is not None}
    train = _asked(run)
    given = [q for q in train if q.condition is None and q.id in has_text]
    ids = {question.id for question in given}
    return given, [question for question in train if question.id not in ids]


def check(run: Run) -> None:
    """Raises MissingRationale where the suite is the teacher and has no text for a question."""
    if run.config.teacher.provider != "file":
        return
    given, open_ones = as_written(run)
    labelled = [question for question in open_ones if question.condition is not None]
    check_rationales([q.id for q in [*given, *labelled]], own_texts(run, "distill"))


def ask(run: Run) -> tuple[list[Target], list[RejectedTarget]]:
    """Have the teacher label the questions, where it is to, and write their targets."""
    own = {item.question.id: item for item in custom_items(run.config.data)}
    given, open_ones = as_written(run)
    questions, unlabelled = label_questions(run, open_ones, "teach")
    # In the order of the split, which is that of the training set.
    by_id = {question.id: question for question in [*given, *questions]}
    ordered = [by_id[q.id] for q in _asked(run) if q.id in by_id]

    requests = distill_requests(ordered, run.config.teacher.examples, own)
    file = CLEAN if run.faults and _asked(run) else "targets.jsonl"
    return collect_targets(run, requests, "teach", unlabelled, file)


def execute(run: Run) -> None:
    """Write `teach/targets.jsonl`, with faults where `plant` says so.

    Raises:
        RuntimeError: Not one target was accepted, or not one could get its fault.
    """
    accepted, rejected = ask(run)
    if not _asked(run):
        print("no target is needed: M_int is given, and nothing is replayed", flush=True)
        return
    counts = reject_counts(rejected, run.questions)
    reasons = {code: sum(found.values()) for code, found in counts.items()}
    print(f"{len(accepted)} targets accepted, {len(rejected)} rejected {reasons or ''}", flush=True)

    if not accepted:
        raise RuntimeError(
            f"the teacher's {len(rejected)} targets were all rejected {reasons}; read "
            f"{run.folder / 'teach/rejected.jsonl'}, then try a stronger teacher.model"
        )
    if run.faults:
        on_primary(lambda: _plant(run, accepted))


def _plant(run: Run, accepted: Sequence[Target]) -> None:
    """Write the targets with their faults, and where these are."""
    share = run.config.plant.share
    found = plant_faults(accepted, run.questions, run.faults, share, run.config.plant.sentences)
    write_jsonl(run.folder / PLANTED, found.faults)
    write_jsonl(run.folder / UNPLANTED, found.unplanted)
    write_jsonl(run.folder / TARGETS, found.targets)

    print(
        f"faults planted in {len(found.faults)} of {len(accepted)} targets (plant.share {share:g} "
        f"of {', '.join(run.faults)}); {len(found.unplanted)} chosen ones could get none",
        flush=True,
    )

    if not found.faults:
        why = "plant.share is too small for so few targets"
        if found.unplanted:
            why = f"{run.folder / UNPLANTED} says why; the first: {found.unplanted[0].reason}"
        raise RuntimeError(f"no fault could be planted: {why}")
