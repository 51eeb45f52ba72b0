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

from dart_jax.audit.drift import check_held_out, with_benchmarks
from dart_jax.processes import on_primary
from dart_jax.records import DriftCase, DriftType, Target, read_jsonl, write_jsonl, write_text
from dart_jax.run_dir import hash_path
from dart_jax.set_aside import remove
from dart_jax.sft.examples import Example, pair_up, tokenize
from dart_jax.sft.loop import train
from dart_jax.sft.metrics import LogLine
from dart_jax.sft.packing import planned_batches
from dart_jax.sft.token_losses import loss_identity
from dart_jax.stages.auditing import judge_input
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import FIRST, Cycle
from dart_jax.stages.providers import own_texts
from dart_jax.stages.targets import (
    collect_targets,
    label_questions,
    scorer_input,
    validation_ids,
)
from dart_jax.stages.teach import teacher_input
from dart_jax.teach.case_weight import case_weight, weight_fn_inputs
from dart_jax.teach.from_file import check_rationales
from dart_jax.teach.repair import (
    WeightingHadNoEffect,
    check_weighting,
    configured_weights,
    drifted_targets,
    mix_replay,
    repair_requests,
    weight_report,
)
from dart_jax.teach.spans import mark_passages
from dart_jax.teach.weighting import (
    capped,
    check_copies,
    mass_factor,
    oversampled,
    scaled,
    weight_level,
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
    """Collect what M_DART depends on; the number of cycles to come is not among it."""
    loss = loss_identity(run.config.repair.loss)
    sft = run.config.sft.identity()
    # A repair has its own, or none: it ends after its epochs, whatever it does to held-out rows.
    for of_distill in ("learning_rate", "epochs", "loss", "early_stopping", "validate_every"):
        sft.pop(of_distill, None)

    # Where no target may come from a split, a change of it repeats no repair.
    trained_on = {"heldout": ("train", "validation"), "transductive": ("train", "test")}
    return {
        **run.common_inputs(),
        **run.model_inputs(),
        "adapter": hash_path(run.adapter_path(cycle.before)),
        "drift cases": hash_path(run.folder / cycle.path("audit/drift_cases.jsonl")),
        "distill targets": hash_path(run.folder / "teach/targets.jsonl"),
        "questions": run.split_input(*trained_on[run.config.audit.protocol]),
        "teacher": teacher_input(run),
        "scorer": scorer_input(run),
        "repair": {**run.config.repair.identity(), "loss": loss},
        "lora": run.section("lora"),
        "sft": sft,
        **_safer_inputs(run, cycle),
        **weight_fn_inputs(run.config.repair),
    }


def _safer_inputs(run: Run, cycle: Cycle) -> dict[str, Any]:
    """Say who decides that repairs are safer, by the types of drift that occur.

    Nothing where the scorer decides on all of them, as it did before one could choose, so that
    such runs stay as they are.
    """
    if run.config.repair.epochs == 0:
        return {}
    # A sweep's plan asks before there are any: each type may then occur.
    types = set(DriftType)
    path = run.folder / cycle.path("audit/drift_cases.jsonl")
    if path.exists():
        types = {case.type for case in read_jsonl(path, DriftCase)}

    require, has_judge = run.config.repair.require_safer, run.config.audit.asks_judge
    rules = {type.value: require.rule(type, has_judge) for type in DriftType if type in types}
    deciding = set(rules.values())
    if deciding <= {"scorer"}:
        return {}
    judge = {"judge": judge_input(run)} if "judge" in deciding else {}
    return {"safer by": rules, **judge}


def check(run: Run, cycle: Cycle = FIRST) -> None:
    """Raises ValueError for drift cases that may not be repaired or weighed, or that the teacher
    cannot repair.

    MissingRationale is one: the suite is the teacher, and has no safer text for a question.
    """
    config = run.config
    cases = on_primary(lambda: _cases(run, cycle))
    cases = cases if config.repair.epochs else []
    weigh = case_weight(config.repair)
    for case in cases:
        weigh(case)
    ids = [case.question_id for case in cases]
    if config.audit.protocol == "heldout":
        check_held_out("in the repair set (protocol heldout)", ids, run.splits["test"])
    if config.teacher.provider == "file":
        labelled = [id for id in ids if run.questions[id].condition is not None]
        check_rationales(labelled, own_texts(run, "repair"))


def _cases(run: Run, cycle: Cycle) -> list[DriftCase]:
    cases = read_jsonl(run.folder / cycle.path("audit/drift_cases.jsonl"), DriftCase)
    # Audits of earlier versions left them out.
    return with_benchmarks(cases, run.questions)


def execute(run: Run, cycle: Cycle = FIRST) -> None:
    """Write `adapters/M_DART`; a copy of M_int when nothing is repaired."""
    cases = on_primary(lambda: _cases(run, cycle))
    repairs = ask(run, cycle)
    training = on_primary(lambda: _write_training_set(run, repairs, cases, cycle))
    if not training:
        on_primary(lambda: _nothing_to_repair(run, len(cases), cycle))
        return
    _train(run, training, cycle)


def ask(run: Run, cycle: Cycle = FIRST) -> list[Target]:
    """Have the teacher write a safer target for each drift case."""
    # Without epochs, nobody is asked for targets that nothing would be trained on.
    cases = on_primary(lambda: _cases(run, cycle)) if run.config.repair.epochs else []
    folder = cycle.path("repair")
    asked = [run.questions[case.question_id] for case in cases]
    questions, unlabelled = label_questions(run, asked, folder)
    by_id = {question.id: question for question in questions}
    labelled = [case for case in cases if case.question_id in by_id]
    has_judge = run.config.audit.asks_judge
    requests = repair_requests(labelled, by_id, run.config.repair, has_judge)
    accepted, rejected = collect_targets(run, requests, folder, unlabelled)
    print(f"{len(accepted)} repairs accepted, {len(rejected)} rejected", flush=True)
    return accepted


def _write_training_set(
    run: Run, repairs: Sequence[Target], cases: Sequence[DriftCase], cycle: Cycle
) -> list[Target]:
    """Repairs, replay and, where the loss has a part for it, what drifted, as trained on.

    Empty when there is nothing to repair.
    """
    config, seed = run.config.repair, run.config.run.seed
    distill = read_jsonl(run.folder / "teach/targets.jsonl", Target)
    validation = validation_ids(run, distill)
    # Replay would train on the rows that are held out to be measured.
    distill = [target for target in distill if target.question_id not in validation]
    targets = mix_replay(repairs, distill, config.replay, seed) if repairs else []

    # Checked again: replay has added targets since `check`.
    if run.config.audit.protocol == "heldout":
        ids = [target.question_id for target in targets]
        check_held_out("in the repair set (protocol heldout)", ids, run.splits["test"])

    factor = mass_factor(targets, config.mass)
    targets = scaled(targets, factor)
    level = weight_level([target.weight for target in targets], config.max_weight_share)
    targets = capped(targets, level)

    by_id = {case.question_id: case for case in cases}
    targets = mark_passages(targets, by_id, config.span_weight)
    sampled = config.weighting == "oversample"
    training = oversampled(targets, seed + cycle.number) if sampled else targets
    if sampled:
        check_copies(targets, training)

    report = weight_report(targets, training)
    own = config.weight_fn is not None
    expected = configured_weights(repairs, cases, config) if own else config.weights
    check_weighting(report, expected, level, sampled, config.mass)
    if config.mass is not None:
        report["mass"] = {"of_replay": config.mass, "factor": factor}
    if config.loss.needs_drifted:
        # Of `training`, so that each copy of a repair has its opposite.
        drifted = drifted_targets(training, cases)
        if config.loss.compares:
            repairs = sum(target.stage == "repair" for target in training)
            # A case without an analysis has nothing to reject.
            print(f"pairs: {len(drifted)} of {repairs} repairs", flush=True)
        training = training + mark_passages(drifted, by_id, config.span_weight)

    write_jsonl(run.folder / cycle.path("repair/training_set.jsonl"), training)
    text = json.dumps(report, indent=2)
    write_text(run.folder / cycle.path("repair/weights.json"), text + "\n")
    if targets:
        cut = "" if math.isinf(level) else f", none above {level:g} (repair.max_weight_share)"
        print(f"repair set: {json.dumps(report)}{cut}", flush=True)
    return training


def _nothing_to_repair(run: Run, cases: int, cycle: Cycle) -> None:
    why = "no drift case was confirmed"
    if run.config.repair.epochs == 0:
        why = "repair.epochs is 0: distill only"
    elif cases:
        why = f"the teacher's targets for {cases} drift cases were all rejected"
    print(f"nothing to repair ({why}): {cycle.after} is {cycle.before}", flush=True)

    # A start that was killed may have left a part of it.
    remove(run.adapter_path(cycle.after))
    shutil.copytree(run.adapter_path(cycle.before), run.adapter_path(cycle.after))
    # The log is an output, and the report reads it.
    write_jsonl(run.folder / cycle.path("repair/log.jsonl"), [])


def _train(run: Run, training: Sequence[Target], cycle: Cycle) -> None:
    # Distill has the run's seed itself: each cycle draws batches and dropout of its own.
    config, model, seed = run.config, run.model_of(cycle.after), run.config.run.seed + cycle.number
    folder = run.folder / cycle.path("repair")
    length = min(config.sft.max_length, model.config.context_length)
    examples = tokenize(training, run.questions, model.tokenizer, length)
    if config.repair.loss.compares:
        examples = pair_up(examples)

    trained = train(
        examples,
        model,
        run.adapter(cycle.before)[0],
        folder,
        base=on_primary(run.model_inputs),
        lora=config.lora,
        sft=replace(config.sft, epochs=config.repair.epochs),
        loss=config.repair.loss,
        epochs=config.repair.epochs,
        learning_rate=config.repair.learning_rate,
        seed=seed,
        title=cycle.stage_name("repair"),
        max_steps=config.repair.max_steps,
        tracking=run.tracking,
    )

    # Before the adapter is saved: none that saw other weights may be found.
    log = on_primary(lambda: read_jsonl(folder / "log.jsonl", LogLine))
    left_out = _beyond_max_steps(run, examples, seed)
    check_weight_mass(examples, config.repair.epochs, log, left_out)
    run.save_adapter(cycle.after, trained)


def _beyond_max_steps(run: Run, examples: Sequence[Example], seed: int) -> list[Example]:
    """The examples of the steps that `repair.max_steps` leaves out, as often as they would come."""
    repair = run.config.repair
    if repair.max_steps is None:
        return []
    batches = planned_batches(examples, run.config.sft, epochs=repair.epochs, seed=seed)
    seen, left_out = batches[: repair.max_steps], batches[repair.max_steps :]
    distinct = {index for batch in seen for index in batch}
    print(
        f"repair.max_steps: {len(seen)} of {len(batches)} steps, which had {len(distinct)} of "
        f"{len(examples)} examples",
        flush=True,
    )
    return [examples[index] for batch in left_out for index in batch]


def check_weight_mass(
    examples: Sequence[Example],
    epochs: int,
    log: Sequence[LogLine],
    left_out: Sequence[Example] = (),
) -> None:
    """The weights that the loss saw must add up to those of the repair set.

    Each step logs the sum of its loss weights as the device had them; over a run that is
    epochs x sum over examples of weight x token weights. This is the whole way from the drift
    case to the loss: a target merged, dropped or reweighted anywhere changes the sum.

    Args:
        left_out: Examples of the steps beyond `repair.max_steps`.

    Raises:
        WeightingHadNoEffect: With both sums.
    """
    expected = epochs * sum(example.weight_mass for example in examples)
    expected -= sum(example.weight_mass for example in left_out)
    seen = sum(step.weight_mass for step in log)
    # The device sums weights in float32.
    if not math.isclose(seen, expected, rel_tol=1e-4):
        raise WeightingHadNoEffect(
            f"the loss saw a weight mass of {seen:g}, the repair set holds {expected:g}"
        )
