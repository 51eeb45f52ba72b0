"""Stage evaluate: the three models on test prompts, drift against M0, and the report."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from dart_jax.config import STAGES
from dart_jax.evaluate.console import console_table
from dart_jax.evaluate.metrics import model_metrics
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
from dart_jax.stages.auditing import Audit, audit_candidate, audit_inputs, score_all
from dart_jax.stages.context import MODELS, Run
from dart_jax.stages.targets import reject_counts
from dart_jax.teach.labels import label_summary

OUTPUTS = ("generations", "evaluation", "report")
WORK = ()
AUDITED = ("M_int", "M_DART")
_TARGETS = {"distill": "teach", "repair": "repair"}  # stage name in the report: folder


def inputs(run: Run) -> dict[str, Any]:
    """What the reported numbers depend on."""
    return {
        **run.common_inputs(),
        **audit_inputs(run),
        "model": run.model_input(),
        "model.dtype": run.config.model.dtype,
        "model.quantize": run.config.model.quantize,
        "adapters": [hash_path(run.adapter_path(name)) for name in AUDITED],
        "questions": run.split_input("train", "test"),
        "decode": run.section("decode"),
        "evaluate": run.section("evaluate"),
        "weights": hash_path(run.folder / "repair/weights.json"),
        "drift pool": hash_path(run.folder / "audit/summary.json"),
        "rejects": [hash_path(run.folder / f"{name}/rejected.jsonl") for name in _TARGETS.values()],
        "labels": hash_path(run.folder / "teach/labels.jsonl"),
    }


def execute(run: Run) -> None:
    """Write generations, `evaluation/summary.json` and `report/report.md`."""
    started = time.perf_counter()
    answers = _answers(run)
    everything = [answer for name in MODELS for answer in answers[name]]
    scores = score_all(run, everything, "evaluation/scores.jsonl")
    audits = {
        name: audit_candidate(
            run, answers["M0"], answers[name], scores, f"evaluation/verdicts_{name}.jsonl"
        )
        for name in AUDITED
    }
    on_first(lambda: _report(run, answers, audits, started))


def _report(
    run: Run, answers: dict[str, list[Generation]], audits: dict[str, Audit], started: float
) -> None:
    summary = _summary(run, answers, audits, started)
    write_summary(run.folder / "evaluation/summary.json", summary)
    page = write_report(run.folder.path, summary, _report_data(run, answers, audits))
    print(f"\n{console_table(summary)}\n\nreport: {page}", flush=True)


def _answers(run: Run) -> dict[str, list[Generation]]:
    copied = on_first(lambda: _m_dart_is_m_int(run))
    names = ("M0", "M_int") if copied else MODELS
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
    weights = json.loads((run.folder / "repair/weights.json").read_text(encoding="utf-8"))
    weights.pop("replay")
    taken = {**run.folder.seconds(), "evaluate": round(time.perf_counter() - started, 2)}
    return build_summary(
        models={
            name: model_metrics(test, answers[name], config.evaluate, config.run.seed)
            for name in MODELS
        },
        drift={name: audit.summary() for name, audit in audits.items()},
        pool=json.loads((run.folder / "audit/summary.json").read_text(encoding="utf-8")),
        repair={
            name: {"examples": row["examples"], "weight_mass": row["weight"]}
            for name, row in weights.items()
            if row["examples"]
        },
        shortcut=shortcut_accuracy(run.splits["train"], test),
        split_by=config.data.split_by,
        judge="none" if config.audit.mode == "screen_only" else config.judge.provider,
        rejects=_rejects(run),
        labels=_labels(run),
        seconds={stage: taken[stage] for stage in STAGES},
    )


def _rejects(run: Run) -> dict[str, dict[str, dict[str, int]]]:
    files = {stage: f"{folder}/rejected.jsonl" for stage, folder in _TARGETS.items()}
    return {
        stage: reject_counts(read_jsonl(run.folder / file, RejectedTarget), run.questions)
        for stage, file in files.items()
    }


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
    pool = read_jsonl(run.folder / "audit/verdicts.jsonl", Outcome)
    outcomes = {"M_int, drift pool": pool} | {
        f"{name}, test": audit.outcomes for name, audit in audits.items()
    }
    return ReportData(
        config=run.config.to_dict(),
        confidence=run.config.evaluate.confidence,
        tau=run.config.audit.tau,
        deltas={name: [pair.delta for pair in audit.pairs] for name, audit in audits.items()},
        losses={stage: [(line.step, line.loss) for line in log] for stage, log in logs.items()},
        uncertain={
            name: [outcome for outcome in found if isinstance(outcome, Uncertain)]
            for name, found in outcomes.items()
        },
        examples=_examples(run, answers, audits["M_int"]),
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
