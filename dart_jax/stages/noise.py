"""Compare M0 with itself under other seeds, which gives the screen's noise and `audit.tau: auto`.

    audit/generations/M0_reseeded.jsonl   M0's answers to the drift pool under the next seed
    audit/tau.json                        the noise between both passes, and the tau that it gives

They are there where tau is auto, from the first audit of a run on. Later cycles, the evaluation and
external suites screen by the same tau.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dart_jax.audit.drift import severities_below
from dart_jax.audit.noise_floor import TAU, Calibration, auto_tau, check_auto, noise_floor
from dart_jax.audit.scorers import column, score_generations
from dart_jax.config import DartConfig
from dart_jax.generate.answers import answer_questions
from dart_jax.processes import on_primary
from dart_jax.records import Generation, Question, write_text
from dart_jax.run_dir import hash_path
from dart_jax.stages.context import Run
from dart_jax.summaries import read_json, to_pretty_json

RESEEDED = "audit/generations/M0_reseeded.jsonl"


def tau_of(run: Run) -> float:
    """Return the screen's threshold: `audit.tau`, or what the first audit found for auto."""
    noise = tau_noise(run)
    return run.config.audit.tau if noise is None else noise.tau


def tau_noise(run: Run) -> Calibration | None:
    """Read the noise by which the first audit has set tau; None where `audit.tau` is a number."""
    if run.config.audit.tau != "auto":
        return None
    return read_json(run.folder / TAU, Calibration)


def tau_input(run: Run) -> float | str | None:
    """Identify the threshold for the inputs of stages after the first audit."""
    tau = run.config.audit.tau
    return hash_path(run.folder / TAU) if tau == "auto" else tau


def check_auto_tau(config: DartConfig, questions: int) -> None:
    """Raise ValueError where `audit.tau: auto` has no noise, or too few questions, to be set by.

    Args:
        questions: Number of questions of the drift pool that leave room for an answer.
    """
    if config.audit.tau != "auto":
        return
    if config.decode.temperature == 0:
        raise ValueError(
            "audit.tau auto: with decode.temperature 0 M0 answers the same under any noise; give "
            "audit.tau a number, such as the paper's 0.01"
        )
    check_auto(questions)


def set_tau(run: Run, questions: Sequence[Question], answers: Sequence[Generation]) -> None:
    """Have M0 answer the drift pool under another seed; write the tau of that noise.

    Args:
        questions: The drift pool.
        answers: M0's under the run's own seed, in the order of the questions.
    """
    own = run.config.run.seed
    files = {"M0": run.folder / RESEEDED}
    # M0 has just answered beside M_int, whose adapter does not reach it: the same programs serve.
    beside = {} if run.config.model.candidate is not None else run.adapters(["M_int"])
    # The next seed is the first that `audit calibrate` asks for: it finds these answers.
    again = answer_questions(run.model, beside, questions, files, run.decode, own + 1)["M0"]

    def measure() -> None:
        noise = measured_noise(run, [own, own + 1], [answers, again])
        write_text(run.folder / TAU, to_pretty_json(noise))
        print(_said(run, noise), flush=True)

    on_primary(measure)


def _said(run: Run, noise: Calibration) -> str:
    """Say what tau is, and whether it leaves severities without cases."""
    config, rate = run.config.audit, noise.at_tau().rate
    words = f"tau {noise.tau:g} (auto): {100 * rate:.1f} % of {noise.pairs} pairs of M0 exceed it"
    below = severities_below(noise.tau, config.severity_bins)
    if config.mode == "screen_only" and below:
        names = " or ".join(severity.name.lower() for severity in below)
        words += f"; by audit.severity_bins, no case can be {names} above it"
    return words


def measured_noise(
    run: Run,
    seeds: Sequence[int],
    answers: Sequence[Sequence[Generation]],
    tau: float | None = None,
) -> Calibration:
    """Score M0's answers under each seed, and measure how their scores differ.

    A prompt without room for its answer has none, under any seed, and no noise: it is left out.

    Args:
        answers: Of each seed, to the same questions in the same order.
        tau: The screen's threshold; None takes the one of `auto_tau`.

    Raises:
        ValueError: Too few questions have answers.
    """
    rows = [row for row in zip(*answers, strict=True) if all(a.had_room for a in row)]
    scores = _scores(run, rows)
    config = run.config.audit
    if tau is None:
        tau = auto_tau(scores, config.screen_by)

    return Calibration(
        **vars(noise_floor(scores, tau, config.screen_by)),
        questions=len(rows),
        no_room=len(answers[0]) - len(rows),
        seeds=list(seeds),
        versions={scorer.name: scorer.version for scorer in run.scorers},
        scores={name: values.tolist() for name, values in scores.items()},
    )


def _scores(run: Run, rows: Sequence[Sequence[Generation]]) -> dict[str, np.ndarray]:
    """Score answers, [questions][seeds], by each scorer and view, all in one call."""
    config = run.config.audit
    everything = [answer for row in rows for answer in row]

    scores = {}
    for scorer in run.scorers:
        scored = score_generations(
            everything, scorer, config.batch_size, config.views, run.questions
        )
        values = np.array([score.value for score in scored])
        # `score_generations` gives one view after the other, each in the order of the answers.
        of_views = values.reshape(len(config.views), len(rows), -1)
        for view, of_view in zip(config.views, of_views, strict=True):
            scores[column(scorer.name, view)] = of_view

    return scores
