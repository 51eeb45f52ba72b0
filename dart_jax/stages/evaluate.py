"""Stage evaluate: the three models on test prompts, drift against M0, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dart_jax.audit.agreement import read_agreement
from dart_jax.audit.drift import AuditCounts
from dart_jax.evaluate.decisions import question_decisions
from dart_jax.evaluate.models import AUDITED, MODELS, SEVERITIES, at_strength
from dart_jax.evaluate.policy import Side, policy_summary
from dart_jax.evaluate.shortcut import SHORTCUT, Shortcut, shortcut_baseline, shortcut_metrics
from dart_jax.evaluate.statistics import statistics
from dart_jax.evaluate.summary import (
    SUMMARY,
    CycleResult,
    RepairedSeverity,
    RunSummary,
    with_corrected_drift,
    write_summary,
)
from dart_jax.processes import on_primary
from dart_jax.records import (
    DriftCase,
    PredictedLabel,
    RejectedTarget,
    read_jsonl,
    write_jsonl,
)
from dart_jax.report.browser_data import QUESTIONS
from dart_jax.report.run_report import console_text, write_report
from dart_jax.run_dir import hash_path
from dart_jax.stages.audit import pool
from dart_jax.stages.auditing import audit_inputs, judge_name
from dart_jax.stages.context import Run, questions_digest
from dart_jax.stages.cycles import (
    Cycle,
    audited_adapters,
    audited_models,
    cycles_run,
    later_models,
)
from dart_jax.stages.drift_found import (
    collateral_found,
    drift_found,
    planted_answers,
    planted_found,
)
from dart_jax.stages.evaluators import (
    evaluated,
    evaluator_inputs,
    second_opinions,
    verdicts_file,
)
from dart_jax.stages.frontier import frontier_models, frontier_points
from dart_jax.stages.measuring import (
    DIVERGENCES,
    WITH_POLICY,
    Measured,
    measure,
    model_figures,
    with_divergences,
)
from dart_jax.stages.noise import tau_input, tau_noise, tau_of
from dart_jax.stages.report_input import report_data
from dart_jax.stages.same_answers import AUDIT_AFTER_ANSWERS, deciding
from dart_jax.stages.targets import reject_counts, reject_types
from dart_jax.summaries import read_json
from dart_jax.teach.labels import LabelSummary, label_summary
from dart_jax.teach.planted import PLANTED, UNPLANTED, read_planting

OUTPUTS = ("generations", "evaluation", "report")
# Partial answers and verdicts lie in the outputs' folders.
WORK = ()

# Of the inputs, those on which no answer depends but that of a model for its own adapter.
_FREE = {
    *("adapters", "cycles", "distill only", "drift pool", "judge", "labels", "pool questions"),
    *("plant", "planted targets", "planted texts", "rejects", "scorers", "tau", "weights"),
    "evaluator",
}
# Where answers to test prompts are audited, the drift pool is another matter.
_FREE_FIELDS = {
    "audit": AUDIT_AFTER_ANSWERS | {"pool_splits", "protocol", "max_prompts"},
    "evaluate": {"bootstrap_samples", "confidence", "first_tokens", "forced", "frontier"},
}
_JUDGED_BY = ("audit", "judge", "scorers", "tau")


def inputs(run: Run) -> dict[str, Any]:
    """Collect what the reported numbers depend on."""
    return {
        **run.common_inputs(),
        **audit_inputs(run),
        **run.model_inputs(),
        "adapters": audited_adapters(run.folder.path, run.config.repair.cycles),
        "cycles": run.config.repair.cycles,
        "distill only": run.config.repair.epochs == 0,
        "questions": run.split_input("train", "test"),
        "decode": run.config.decode.identity(),
        "evaluate": run.config.evaluate.identity(),
        "weights": hash_path(run.folder / "repair/weights.json"),
        "drift pool": [
            hash_path(run.folder / cycle.path(f"audit/{name}"))
            for cycle in _cycles(run)
            for name in ("summary.json", "verdicts.jsonl")
        ],
        "pool questions": questions_digest(pool(run)),
        "tau": tau_input(run),
        "rejects": [hash_path(run.folder / file) for file in _reject_files(run).values()],
        "labels": hash_path(run.folder / "teach/labels.jsonl"),
        **_planting_inputs(run),
        **evaluator_inputs(run),
    }


def _planting_inputs(run: Run) -> dict[str, Any]:
    """What the report says of planted faults; nothing where planting is off."""
    if not run.faults:
        return {}
    files = [hash_path(run.folder / name) for name in (PLANTED, UNPLANTED)]
    return {**run.planting_inputs(), "planted targets": files}


def same_answers(run: Run, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Files of answers, and of what was found of each, that are the same under both inputs."""
    if _deciding(ours) != _deciding(theirs):
        return

    names = audited_models(run.folder.path, run.config.repair.cycles)
    # One of the two may have had more cycles.
    pairs = zip(names, ours["adapters"], theirs["adapters"], strict=False)
    same = [name for name, one, other in pairs if one == other]
    if "M_int" in same:
        asked, answered = (inputs["evaluate"].get("frontier", ()) for inputs in (ours, theirs))
        same += [at_strength("M_int", strength) for strength in asked if strength in answered]

    same_judge = all(ours.get(key) == theirs.get(key) for key in _JUDGED_BY)
    both = all(inputs["evaluate"]["policy"] == "both" for inputs in (ours, theirs))
    for folder in ("", WITH_POLICY) if both else ("",):
        for name in ("M0", *same):
            yield f"generations{folder}/{name}.jsonl"
            if same_judge and name != "M0":
                yield f"evaluation{folder}/verdicts_{name}.jsonl"
            yield f"evaluation{folder}/margins_{name}.jsonl"
    judges = [inputs.get("evaluator", {}).get("judge") for inputs in (ours, theirs)]
    if judges[0] is not None and judges[0] == judges[1]:
        yield from (verdicts_file(name) for name in same if name in AUDITED)
    places = [inputs["evaluate"].get("first_tokens") for inputs in (ours, theirs)]
    if {"M_int", "M_DART"} <= set(same) and places[0] == places[1]:
        yield DIVERGENCES


def _deciding(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs on which answers depend.

    Asked both ways, the answers without the policy are those of a run without it.
    """
    asked = "with" if inputs["evaluate"]["policy"] == "with" else "without"
    evaluated = {**inputs["evaluate"], "policy": asked}
    return deciding({**inputs, "evaluate": evaluated}, _FREE, _FREE_FIELDS)


def check(run: Run) -> None:
    """Raises ValueError where there is nothing to evaluate on."""
    if not run.splits["test"]:
        raise ValueError("there is no test question: raise data.max_test, or leave evaluate out")


def execute(run: Run) -> None:
    """Write generations, `evaluation/summary.json` and the report."""
    started = time.perf_counter()
    found = ask(run)
    headline = next(iter(found))
    found[headline] = with_divergences(run, found[headline], headline == "with")
    on_primary(lambda: _report(run, found, started))


def ask(run: Run) -> dict[str, Measured]:
    """Have the models answer the test questions and the judges decide on the answers.

    Returns:
        What was found, by way of asking; the first is what the report's figures are of.
    """
    later = on_primary(lambda: later_models(run.folder.path, run.config.repair.cycles))
    policy = run.config.evaluate.policy
    further = (*later, *frontier_models(run))
    found = {"with" if policy == "with" else "without": measure(run, further, policy == "with", "")}
    [(headline, first)] = found.items()
    opinions = evaluated(run, first.answers, first.audits)
    found[headline] = replace(first, evaluated=opinions)
    if policy == "both":
        found["with"] = measure(run, (), True, WITH_POLICY)
    return found


def _report(run: Run, found: dict[str, Measured], started: float) -> None:
    """Write the numbers and what is said of them.

    Args:
        found: By way of asking; the first is what the report's figures are of.
    """
    first, *_ = found.values()
    sides = {name: measured.side() for name, measured in found.items()}
    shortcut = shortcut_baseline(run.splits["train"], run.splits["test"])
    summary = _summary(run, first, shortcut, sides, started)
    summary = with_corrected_drift(summary, read_agreement(run.folder.path))
    write_summary(run.folder / SUMMARY, summary)

    # By id, since under protocol transductive the pool is of test questions.
    asked = {question.id: question for question in [*pool(run), *run.splits["test"]]}
    write_jsonl(run.folder / QUESTIONS, asked.values())
    baseline = {} if shortcut is None else {SHORTCUT: shortcut.answers}
    decided = question_decisions(run.splits["test"], {**first.models(), **baseline})
    write_jsonl(run.folder / "evaluation/decisions.jsonl", decided)

    data = report_data(run, first.answers, first.audits)
    page = write_report(run.folder.path, summary, data)
    print(
        f"\n{console_text(summary, data)}\n\nreport: {page}, and index.html beside it", flush=True
    )


def _summary(
    run: Run,
    found: Measured,
    shortcut: Shortcut | None,
    sides: dict[str, Side],
    started: float,
) -> RunSummary:
    test, config = run.splits["test"], run.config
    audits = found.audits
    baseline = {} if shortcut is None else {SHORTCUT: shortcut.answers}

    rejects = {}
    for step, file in _reject_files(run).items():
        rejected = read_jsonl(run.folder / file, RejectedTarget)
        rejects[step] = reject_counts(rejected, run.questions)

    repair, noise = _repair_set(run), tau_noise(run)
    incoherent, by_evaluator = second_opinions(run, found.answers, audits, found.evaluated)
    # The stage has no manifest yet that would say how long it took.
    taken = {**run.folder.seconds(), "evaluate": round(time.perf_counter() - started, 2)}
    return RunSummary(
        protocol=config.audit.protocol,
        split_by=config.data.split_by,
        judge=judge_name(run),
        tau=tau_of(run),
        tau_set="fixed" if noise is None else "auto",
        tau_pairs=0 if noise is None else noise.pairs,
        models={name: model_figures(run, found, name) for name in MODELS},
        shortcut_baseline=shortcut_metrics(
            shortcut, test, found.models(), config.evaluate, config.run.seed
        ),
        drift=drift_found(run, audits),
        drift_pool=_audit_counts(run, "audit/summary.json"),
        repair=repair,
        cycles=_cycle_results(run, found),
        rejects=rejects,
        rejects_by_type=_rejects_by_type(run),
        labels=_labels(run),
        m_dart_is_m_int=not repair,
        distill_only=config.repair.epochs == 0,
        seconds={step: taken[step] for step in _step_names(run)},
        statistics=statistics(
            test,
            {**found.models(), **baseline},
            found.scores,
            {name: (audits[name].pairs, audits[name].outcomes) for name in AUDITED},
            config.evaluate,
            config.run.seed,
        ),
        policy=policy_summary(test, sides, config.evaluate, config.run.seed),
        planting=read_planting(run.folder.path),
        planted=planted_found(run, audits),
        frontier=frontier_points(run, found),
        collateral=collateral_found(run, found) if repair else None,
        incoherent=incoherent,
        drift_by=by_evaluator,
    )


def _repair_set(run: Run) -> dict[str, RepairedSeverity]:
    """The repair targets by severity, of the first cycle."""
    weights = _read_json(run, "repair/weights.json")
    found = {}
    for severity in SEVERITIES:
        row = weights[severity]
        if row["examples"]:
            found[severity] = RepairedSeverity(row["examples"], row["weight"])
    return found


def _audit_counts(run: Run, name: str) -> AuditCounts:
    return read_json(run.folder / name, AuditCounts)


def _cycles(run: Run) -> list[Cycle]:
    return list(cycles_run(run.folder.path, run.config.repair.cycles))


def _step_names(run: Run) -> list[str]:
    loop = [cycle.stage_name(stage) for cycle in _cycles(run) for stage in ("audit", "repair")]
    return ["teach", "distill", *loop, "evaluate"]


def _reject_files(run: Run) -> dict[str, str]:
    """By the step's name in the report."""
    repairs = {c.stage_name("repair"): c.path("repair/rejected.jsonl") for c in _cycles(run)}
    return {"distill": "teach/rejected.jsonl", **repairs}


def _rejects_by_type(run: Run) -> dict[str, dict[str, dict[str, int]]]:
    """Count each cycle's rejected repair targets by reason and type of drift."""
    counts = {}
    for cycle in _cycles(run):
        rejected = read_jsonl(run.folder / cycle.path("repair/rejected.jsonl"), RejectedTarget)
        cases = read_jsonl(run.folder / cycle.path("audit/drift_cases.jsonl"), DriftCase)
        counts[cycle.stage_name("repair")] = reject_types(rejected, cases)
    return counts


def _cycle_results(run: Run, found: Measured) -> list[CycleResult]:
    """Sum up what each cycle found on the pool, and how its model does on test questions."""
    results = []
    for cycle in _cycles(run):
        weights = _read_json(run, cycle.path("repair/weights.json"))
        # Where a later cycle repaired nothing, its model is the one before.
        model = cycle.after if cycle.after in found.answers else cycle.before
        results.append(
            CycleResult(
                audited=cycle.before,
                pool=_audit_counts(run, cycle.path("audit/summary.json")),
                repairs=sum(weights[severity]["examples"] for severity in SEVERITIES),
                model=model,
                test=model_figures(run, found, model),
                drift=found.audits[model].counts(),
                planted=planted_answers(run, found.audits[model]),
            )
        )
    return results


def _read_json(run: Run, name: str) -> dict[str, Any]:
    return json.loads((run.folder / name).read_text(encoding="utf-8"))


def _labels(run: Run) -> LabelSummary | None:
    if run.config.teacher.label == "gold":
        return None
    labels = read_jsonl(run.folder / "teach/labels.jsonl", PredictedLabel)
    asked = {label.question_id for label in labels}
    return label_summary([q for q in run.splits["train"] if q.id in asked], labels)
