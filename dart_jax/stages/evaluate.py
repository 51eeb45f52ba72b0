"""Stage evaluate: the three models on test prompts, drift against M0, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dart_jax.audit.screen import above_tau
from dart_jax.evaluate.console import console_table
from dart_jax.evaluate.metrics import model_metrics
from dart_jax.evaluate.page_data import QUESTIONS
from dart_jax.evaluate.report import DriftExample, ReportData, write_report
from dart_jax.evaluate.shortcut import shortcut_accuracy
from dart_jax.evaluate.summary import build_summary, write_summary
from dart_jax.generate.answers import answer_questions
from dart_jax.processes import on_first
from dart_jax.records import (
    Generation,
    Outcome,
    PredictedLabel,
    RejectedTarget,
    Uncertain,
    Verdict,
    read_jsonl,
    write_jsonl,
)
from dart_jax.run_dir import hash_path
from dart_jax.sft.step_log import StepLog
from dart_jax.stages.audit import pool
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, score_all
from dart_jax.stages.context import MODELS, Run
from dart_jax.stages.cycles import Cycle, cycles_run, later_models
from dart_jax.stages.targets import reject_counts
from dart_jax.teach.labels import label_summary

OUTPUTS = ("generations", "evaluation", "report")
WORK = ()
AUDITED = ("M_int", "M_DART")


def inputs(run: Run) -> dict[str, Any]:
    """What the reported numbers depend on."""
    return {
        **run.common_inputs(),
        **audit_inputs(run),
        "model": run.model_input(),
        "model.dtype": run.config.model.dtype,
        "model.quantize": run.config.model.quantize,
        "adapters": [hash_path(run.adapter_path(name)) for name in (*AUDITED, *_later(run))],
        "cycles": run.config.repair.cycles,
        "questions": run.split_input("train", "test"),
        "decode": run.section("decode"),
        "evaluate": run.section("evaluate"),
        "weights": hash_path(run.folder / "repair/weights.json"),
        "drift pool": [hash_path(run.folder / c.path("audit/summary.json")) for c in _cycles(run)],
        "rejects": [hash_path(run.folder / file) for file in _reject_files(run).values()],
        "labels": hash_path(run.folder / "teach/labels.jsonl"),
    }


def execute(run: Run) -> None:
    """Write generations, `evaluation/summary.json` and the report."""
    started = time.perf_counter()
    later = on_first(lambda: _later(run))
    answers = _answers(run, later)
    everything = [answer for found in answers.values() for answer in found]
    scores = score_all(run, everything, "evaluation/scores.jsonl")
    audits = {
        name: audit_candidate(
            run, answers["M0"], answers[name], scores, f"evaluation/verdicts_{name}.jsonl"
        )
        for name in (*AUDITED, *later)
    }
    on_first(lambda: _report(run, answers, audits, started))


def _report(
    run: Run, answers: dict[str, list[Generation]], audits: dict[str, Audit], started: float
) -> None:
    summary = _summary(run, answers, audits, started)
    write_summary(run.folder / "evaluation/summary.json", summary)
    asked = {question.id: question for question in [*pool(run), *run.splits["test"]]}
    write_jsonl(run.folder / QUESTIONS, asked.values())
    page = write_report(run.folder.path, summary, _report_data(run, answers, audits))
    print(f"\n{console_table(summary)}\n\nreport: {page}, and index.html beside it", flush=True)


def _answers(run: Run, later: Sequence[str]) -> dict[str, list[Generation]]:
    copied = on_first(lambda: _m_dart_is_m_int(run))
    names = ("M0", "M_int") if copied else (*MODELS, *later)
    answers = answer_questions(
        run.model,
        {name: run.adapter(name) for name in names if name != "M0"},
        run.splits["test"],
        {name: run.folder / f"generations/{name}.jsonl" for name in names},
        run.decode,
        run.config.run.seed,
    )
    return {**answers, "M_DART": on_first(lambda: _copy_answers(run))} if copied else answers


def _m_dart_is_m_int(run: Run) -> bool:
    return hash_path(run.adapter_path("M_DART")) == hash_path(run.adapter_path("M_int"))


def _copy_answers(run: Run) -> list[Generation]:
    """The same adapter under the same noise writes the same answers."""
    same = read_jsonl(run.folder / "generations/M_int.jsonl", Generation)
    answers = [replace(answer, model="M_DART") for answer in same]
    write_jsonl(run.folder / "generations/M_DART.jsonl", answers)
    return answers


def _summary(
    run: Run, answers: dict[str, list[Generation]], audits: dict[str, Audit], started: float
) -> dict[str, Any]:
    test, config = run.splits["test"], run.config
    weights = _read_json(run, "repair/weights.json")
    weights.pop("replay")
    taken = {**run.folder.seconds(), "evaluate": round(time.perf_counter() - started, 2)}
    return build_summary(
        models={
            name: model_metrics(test, answers[name], config.evaluate, config.run.seed)
            for name in MODELS
        },
        drift={name: audits[name].summary() for name in AUDITED},
        pool=_read_json(run, "audit/summary.json"),
        repair={
            name: {"examples": row["examples"], "weight_mass": row["weight"]}
            for name, row in weights.items()
            if row["examples"]
        },
        shortcut=shortcut_accuracy(run.splits["train"], test),
        split_by=config.data.split_by,
        judge="none" if config.audit.mode == "screen_only" else config.judge.provider,
        cycles=_cycle_rows(run, answers, audits),
        rejects={
            step: reject_counts(read_jsonl(run.folder / file, RejectedTarget), run.questions)
            for step, file in _reject_files(run).items()
        },
        labels=_labels(run),
        seconds={step: taken[step] for step in _step_names(run)},
    )


def _cycles(run: Run) -> list[Cycle]:
    return list(cycles_run(run.folder.path, run.config.repair.cycles))


def _later(run: Run) -> list[str]:
    return later_models(run.folder.path, run.config.repair.cycles)


def _step_names(run: Run) -> list[str]:
    loop = [cycle.step(stage) for cycle in _cycles(run) for stage in ("audit", "repair")]
    return ["teach", "distill", *loop, "evaluate"]


def _reject_files(run: Run) -> dict[str, str]:
    """By the step's name in the report."""
    repairs = {c.step("repair"): c.path("repair/rejected.jsonl") for c in _cycles(run)}
    return {"distill": "teach/rejected.jsonl", **repairs}


def _cycle_rows(
    run: Run, answers: dict[str, list[Generation]], audits: dict[str, Audit]
) -> list[dict[str, Any]]:
    """What each cycle found on the pool, and what its model does on test questions."""
    rows = []
    for cycle in _cycles(run):
        weights = _read_json(run, cycle.path("repair/weights.json"))
        weights.pop("replay")
        # Where a later cycle repaired nothing, its model is the one before.
        model = cycle.after if cycle.after in answers else cycle.before
        rows.append(
            {
                "audited": cycle.before,
                "pool": _read_json(run, cycle.path("audit/summary.json")),
                "repairs": sum(row["examples"] for row in weights.values()),
                "model": model,
                "test": model_metrics(
                    run.splits["test"], answers[model], run.config.evaluate, run.config.run.seed
                ),
                "drift": audits[model].summary(),
            }
        )
    return rows


def _read_json(run: Run, name: str) -> dict[str, Any]:
    return json.loads((run.folder / name).read_text(encoding="utf-8"))


def _labels(run: Run) -> dict[str, Any] | None:
    if run.config.teacher.label == "gold":
        return None
    labels = read_jsonl(run.folder / "teach/labels.jsonl", PredictedLabel)
    return label_summary(run.splits["train"], labels)


def _report_data(
    run: Run, answers: dict[str, list[Generation]], audits: dict[str, Audit]
) -> ReportData:
    logs = {
        stage: read_jsonl(run.folder / f"{stage}/log.jsonl", StepLog)
        for stage in ("distill", "repair")
    }
    outcomes = {
        f"{cycle.before}, drift pool": read_jsonl(
            run.folder / cycle.path("audit/verdicts.jsonl"), Outcome
        )
        for cycle in _cycles(run)
    } | {f"{name}, test": audit.outcomes for name, audit in audits.items()}
    return ReportData(
        config=run.config.to_dict(),
        confidence=run.config.evaluate.confidence,
        tau=run.config.audit.tau,
        deltas={name: [pair.delta for pair in audits[name].pairs] for name in AUDITED},
        losses={stage: [(line.step, line.loss) for line in log] for stage, log in logs.items()},
        uncertain={
            name: [outcome for outcome in found if isinstance(outcome, Uncertain)]
            for name, found in outcomes.items()
        },
        examples=_examples(run, answers, audits["M_int"]),
        above_tau={
            name: above_tau(audit.pairs, run.config.audit.tau) for name, audit in audits.items()
        },
    )


def _examples(run: Run, answers: dict[str, list[Generation]], audit: Audit) -> list[DriftExample]:
    texts = {name: {answer.question_id: answer.text for answer in answers[name]} for name in MODELS}
    confirmed = [v for v in audit.outcomes if isinstance(v, Verdict) and v.drift]
    confirmed.sort(key=lambda verdict: -verdict.severity)
    return [
        DriftExample(
            question_id=verdict.question_id,
            question=run.questions[verdict.question_id].text,
            type=verdict.type,
            severity=verdict.severity,
            texts={name: texts[name][verdict.question_id] for name in MODELS},
        )
        for verdict in confirmed
    ]
