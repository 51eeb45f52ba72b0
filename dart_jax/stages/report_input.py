"""Collect what a run's report shows beside its numbers."""

from __future__ import annotations

from dart_jax.audit.screen import above_tau
from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.records import Generation, Outcome, Uncertain, Verdict, read_jsonl
from dart_jax.report.report_data import DriftExample, ReportData
from dart_jax.sft.metrics import LogLine
from dart_jax.sft.validation import read_validation
from dart_jax.stages.auditing import Audit
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import cycles_run
from dart_jax.stages.noise import tau_of


def report_data(
    run: Run, answers: dict[str, list[Generation]], audits: dict[str, Audit]
) -> ReportData:
    """Collect settings, curves and examples of a run.

    Args:
        answers: To the test questions, by model.
        audits: Of the test answers, by audited model.
    """
    logs = {
        stage: read_jsonl(run.folder / f"{stage}/log.jsonl", LogLine)
        for stage in ("distill", "repair")
    }

    outcomes = {
        f"{cycle.before}, drift pool": read_jsonl(
            run.folder / cycle.path("audit/verdicts.jsonl"), Outcome
        )
        for cycle in cycles_run(run.folder.path, run.config.repair.cycles)
    } | {f"{name}, test": audit.outcomes for name, audit in audits.items()}

    tau = tau_of(run)
    return ReportData(
        config=run.config.to_dict(),
        confidence=run.config.evaluate.confidence,
        deltas={name: [pair.delta for pair in audits[name].pairs] for name in AUDITED},
        losses={stage: [(line.step, line.loss) for line in log] for stage, log in logs.items()},
        uncertain={
            name: [outcome for outcome in found if isinstance(outcome, Uncertain)]
            for name, found in outcomes.items()
        },
        examples=_examples(run, answers, audits["M_int"]),
        above_tau={name: above_tau(audit.pairs, tau) for name, audit in audits.items()},
        validation=[(line.epoch, line.loss) for line in read_validation(run.folder / "distill")],
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
