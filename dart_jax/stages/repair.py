"""Stage repair: safer targets for the drift cases, weighted by severity; M_int becomes M_DART.

In a later cycle it is the model of the cycle before that is trained on.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dart_jax.audit.drift import check_held_out
from dart_jax.processes import on_first
from dart_jax.records import DriftCase, Target, read_jsonl, write_jsonl, write_text
from dart_jax.run_dir import hash_path, remove
from dart_jax.sft.examples import Example, tokenize
from dart_jax.sft.loop import train
from dart_jax.sft.step_log import StepLog
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import FIRST, Cycle
from dart_jax.stages.targets import collect_targets, label_questions
from dart_jax.stages.teach import teacher_input
from dart_jax.teach.repair import (
    WeightingHadNoEffect,
    check_weighting,
    mix_replay,
    repair_requests,
    weight_report,
)

OUTPUTS = (
    "repair/targets.jsonl",
    "repair/rejected.jsonl",
    "repair/labels.jsonl",
    "repair/training_set.jsonl",
    "repair/weights.json",
    "repair/log.jsonl",
)
WORK = ("repair",)


def inputs(run: Run, cycle: Cycle = FIRST) -> dict[str, Any]:
    """What M_DART depends on; not on how many cycles there are to be."""
    repair = run.section("repair")
    repair.pop("cycles")
    trained_on = {"heldout": ("train", "validation"), "transductive": ("train", "test")}
    return {
        **run.common_inputs(),
        "model": run.model_input(),
        "model.dtype": run.config.model.dtype,
        "model.quantize": run.config.model.quantize,
        "adapter": hash_path(run.adapter_path(cycle.before)),
        "drift cases": hash_path(run.folder / cycle.path("audit/drift_cases.jsonl")),
        "distill targets": hash_path(run.folder / "teach/targets.jsonl"),
        "questions": run.split_input(*trained_on[run.config.audit.protocol]),
        "teacher": teacher_input(run),
        "scorer": {
            k: v for k, v in run.section("audit").items() if k.startswith(("scorer", "screen"))
        },
        "repair": repair,
        "lora": run.section("lora"),
        "sft": run.section("sft"),
    }


def execute(run: Run, cycle: Cycle = FIRST) -> None:
    """Write `adapters/M_DART`; a copy of M_int when there is nothing to repair."""
    config = run.config.repair
    path = run.folder / cycle.path("audit/drift_cases.jsonl")
    cases = on_first(lambda: read_jsonl(path, DriftCase))
    repairs = _repair_targets(run, cases, cycle)
    training = on_first(lambda: _write_training_set(run, repairs, cycle))
    if not training:
        on_first(lambda: _nothing_to_repair(run, len(cases), cycle))
        return
    report = weight_report(training)
    check_weighting(report, config.severity_weights)
    print(f"repair set: {json.dumps(report)}", flush=True)
    _train(run, training, cycle)


def _repair_targets(run: Run, cases: Sequence[DriftCase], cycle: Cycle) -> list[Target]:
    folder = cycle.path("repair")
    asked = [run.questions[case.question_id] for case in cases]
    questions, unlabelled = label_questions(run, asked, folder)
    by_id = {question.id: question for question in questions}
    labelled = [case for case in cases if case.question_id in by_id]
    requests = repair_requests(labelled, by_id, run.config.repair)
    accepted, rejected = collect_targets(run, requests, folder, unlabelled)
    print(f"{len(accepted)} repairs accepted, {len(rejected)} rejected", flush=True)
    return accepted


def _write_training_set(run: Run, repairs: Sequence[Target], cycle: Cycle) -> list[Target]:
    """Repairs and replay; empty when there is nothing to repair."""
    distill = read_jsonl(run.folder / "teach/targets.jsonl", Target)
    share, seed = run.config.repair.replay, run.config.run.seed
    training = mix_replay(repairs, distill, share, seed) if repairs else []
    if run.config.audit.protocol == "heldout":
        ids = [target.question_id for target in training]
        check_held_out("in the repair set (protocol heldout)", ids, run.splits["test"])
    write_jsonl(run.folder / cycle.path("repair/training_set.jsonl"), training)
    report = json.dumps(weight_report(training), indent=2)
    write_text(run.folder / cycle.path("repair/weights.json"), report + "\n")
    return training


def _nothing_to_repair(run: Run, cases: int, cycle: Cycle) -> None:
    why = (
        f"the teacher's targets for {cases} drift cases were all rejected"
        if cases
        else ("no drift case was confirmed")
    )
    print(f"nothing to repair ({why}): {cycle.after} is {cycle.before}", flush=True)
    remove(run.adapter_path(cycle.after))
    shutil.copytree(run.adapter_path(cycle.before), run.adapter_path(cycle.after))
    write_jsonl(run.folder / cycle.path("repair/log.jsonl"), [])


def _train(run: Run, training: Sequence[Target], cycle: Cycle) -> None:
    config, model = run.config, run.model
    folder = run.folder / cycle.path("repair")
    length = min(config.sft.max_length, model.config.context_length)
    examples = tokenize(training, run.questions, model.tokenizer, length)
    trained = train(
        examples,
        model,
        run.adapter(cycle.before)[0],
        folder,
        lora=config.lora,
        sft=replace(config.sft, epochs=config.repair.epochs),
        epochs=config.repair.epochs,
        learning_rate=config.repair.learning_rate,
        seed=config.run.seed + cycle.number,
        title=cycle.step("repair"),
    )
    log = on_first(lambda: read_jsonl(folder / "log.jsonl", StepLog))
    check_weight_mass(examples, config.repair.epochs, log)
    run.save_adapter(cycle.after, trained)


def check_weight_mass(examples: Sequence[Example], epochs: int, log: Sequence[StepLog]) -> None:
    """The weights that the loss saw must add up to those of the repair set.

    Each step logs the sum of its loss weights as the device had them; over a run that is
    epochs x sum over examples of weight x completion tokens. This is the whole way from the
    drift case to the loss: a target merged, dropped or reweighted anywhere changes the sum.

    Raises:
        WeightingHadNoEffect: With both sums.
    """
    expected = epochs * sum(e.weight * (len(e.tokens) - e.prompt_length) for e in examples)
    seen = sum(step.weight_mass for step in log)
    if not math.isclose(seen, expected, rel_tol=1e-4):
        raise WeightingHadNoEffect(
            f"the loss saw a weight mass of {seen:g}, the repair set holds {expected:g}"
        )
