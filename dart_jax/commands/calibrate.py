"""Measure the audit's noise floor: M0 is compared with itself under other seeds.

What it decodes is kept in `calibration/`, so that a stopped calibration goes on, and another
scorer or tau costs no decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dart_jax.append_only import resume_jsonl
from dart_jax.audit.noise_floor import Calibration
from dart_jax.commands.refresh_report import refresh_report
from dart_jax.generate.answers import answer_questions
from dart_jax.pipeline.finished import check_base
from dart_jax.processes import on_primary
from dart_jax.prompts.conclusion import RULE
from dart_jax.records import Generation, Question, digest, read_jsonl, write_text
from dart_jax.report.run_report import CALIBRATION
from dart_jax.stages.audit import pool
from dart_jax.stages.context import Run, questions_digest
from dart_jax.stages.noise import RESEEDED, measured_noise, tau_of
from dart_jax.summaries import to_pretty_json


def calibrate(run: Run, most_questions: int | None, other_seeds: int) -> Calibration:
    """Measure the noise floor; write `audit/calibration.json` and, where there is one, the report.

    Args:
        run: Its audit stage is done.
        most_questions: Pool questions to use, spread over benchmarks and conditions; None: all.
        other_seeds: Seeds beside the run's own, whose answers the audit has.

    Raises:
        ValueError: Fewer than two questions with an answer, or no other seed.
        BadCheckpoint: `model.path` holds another model than the audit asked.
    """
    on_primary(lambda: check_base(run.folder, "audit", run.config))
    if other_seeds < 1:
        raise ValueError(f"--seeds {other_seeds}: noise needs one other seed or more")
    # Any first part of the pool is spread over its strata.
    asked = pool(run)[:most_questions]
    seeds = [run.config.run.seed + number for number in range(other_seeds + 1)]
    answers = [_answers(run, asked, seed) for seed in seeds]

    answered = sum(answer.had_room for answer in answers[0])  # the same under any seed
    if answered < 2:
        raise ValueError(
            f"--questions: noise needs two questions or more, not {answered}; "
            f"{len(asked) - answered} of {len(asked)} prompts left no room for an answer"
        )
    return on_primary(lambda: _measure(run, seeds, answers))


def _answers(run: Run, asked: Sequence[Question], seed: int) -> list[Generation]:
    """Decode M0 under a seed, in the order of `asked`; the audit has decoded some already."""
    decoded = {run.config.run.seed: "audit/generations/M0.jsonl"}
    if run.config.audit.tau == "auto":
        decoded[run.config.run.seed + 1] = RESEEDED

    if seed in decoded:
        found = on_primary(lambda: read_jsonl(run.folder / decoded[seed], Generation))
    else:
        path = run.folder / f"calibration/{_setting(run)}/M0_seed_{seed}.jsonl"
        before = on_primary(lambda: resume_jsonl(path, Generation))
        # What the file holds is named as well, since its answers are put in the questions' order.
        wanted = {question.id for question in asked} | {answer.question_id for answer in before}
        found = _decode(run, [q for q in pool(run) if q.id in wanted], path, seed)

    by_id = {answer.question_id: answer for answer in found}
    return [by_id[question.id] for question in asked]


def _decode(run: Run, asked: Sequence[Question], path: Path, seed: int) -> list[Generation]:
    """Decode what `path` does not hold yet: the one place that knows how answers are made."""
    return answer_questions(run.model, {}, asked, {"M0": path}, run.decode, seed)["M0"]


def _setting(run: Run) -> str:
    """Name a folder by what the answers depend on besides the seed."""

    def setting() -> str:
        facts = {
            "prompts": run.common_inputs()["prompts"],
            "conclusion": RULE,
            **run.model_inputs(),
            "decode": run.config.decode.identity(),
            "questions": questions_digest(pool(run)),
        }
        return digest(facts)[:12]

    return on_primary(setting)


def _measure(
    run: Run, seeds: Sequence[int], answers: Sequence[Sequence[Generation]]
) -> Calibration:
    calibration = measured_noise(run, seeds, answers, tau_of(run))
    write_text(run.folder / CALIBRATION, to_pretty_json(calibration))
    refresh_report(run.folder)
    return calibration
