"""Measure the audit's noise floor: M0 is compared with itself under other seeds.

What it decodes is kept in `calibration/`, so that a stopped calibration goes on, and another
scorer or tau costs no decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dart_jax.append_only import resume_jsonl
from dart_jax.audit.noise_floor import Calibration, noise_floor
from dart_jax.audit.scorers import column, score_generations
from dart_jax.commands.refresh_report import refresh_report
from dart_jax.generate.answers import answer_questions
from dart_jax.pipeline.finished import check_base
from dart_jax.processes import on_primary
from dart_jax.prompts.conclusion import RULE
from dart_jax.records import Generation, Question, digest, read_jsonl, write_text
from dart_jax.report.run_report import CALIBRATION
from dart_jax.stages.audit import pool
from dart_jax.stages.context import Run, questions_digest
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
    asked = pool(run)[:most_questions]
    seeds = [run.config.run.seed + number for number in range(other_seeds + 1)]
    answers = [_answers(run, asked, seed) for seed in seeds]
    # A prompt without room for its answer has none, under any seed: no noise to measure.
    answered = [row for row in zip(*answers, strict=True) if all(a.had_room for a in row)]
    if len(answered) < 2:
        raise ValueError(
            f"--questions: noise needs two questions or more, not {len(answered)}; "
            f"{len(asked) - len(answered)} of {len(asked)} prompts left no room for an answer"
        )
    no_room = len(asked) - len(answered)
    return on_primary(lambda: _measure(run, seeds, list(zip(*answered, strict=True)), no_room))


def _answers(run: Run, asked: Sequence[Question], seed: int) -> list[Generation]:
    """Decode M0 under a seed, in the order of `asked`; the run's own seed was decoded already."""
    if seed == run.config.run.seed:
        found = on_primary(
            lambda: read_jsonl(run.folder / "audit/generations/M0.jsonl", Generation)
        )
    else:
        path = run.folder / f"calibration/{_setting(run)}/M0_seed_{seed}.jsonl"
        before = on_primary(lambda: resume_jsonl(path, Generation))
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
    run: Run, seeds: Sequence[int], answers: Sequence[Sequence[Generation]], no_room: int
) -> Calibration:
    """Score the answers of each seed, which are to the same questions in the same order."""
    config, count = run.config.audit, len(answers[0])
    everything = [answer for of_seed in answers for answer in of_seed]
    scores: dict[str, np.ndarray] = {}
    for scorer in run.scorers:
        scored = score_generations(everything, scorer, config.batch_size, config.views)
        values = np.array([score.value for score in scored]).reshape(
            len(config.views), len(seeds), count
        )
        scores |= {
            column(scorer.name, view): of_view.T
            for view, of_view in zip(config.views, values, strict=True)
        }
    calibration = Calibration(
        **vars(noise_floor(scores, config.tau, config.screen_by)),
        questions=count,
        no_room=no_room,
        seeds=list(seeds),
        versions={scorer.name: scorer.version for scorer in run.scorers},
        scores={name: values.tolist() for name, values in scores.items()},
    )
    write_text(run.folder / CALIBRATION, to_pretty_json(calibration))
    refresh_report(run.folder)
    return calibration
