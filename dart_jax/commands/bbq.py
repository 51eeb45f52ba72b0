"""Ask a run's models BBQ: the likeliest of the three letters after each question.

external/bbq/letters/<model>.jsonl   the likeliest letter, and how likely each is
external/bbq/summary.json            accuracy and bias scores by model and category
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from dart_jax.commands.external_prompts import (
    adapter_hashes,
    identity_of,
    measured_inputs,
    reported,
    spread,
    step,
)
from dart_jax.commands.letters import likely_letters, without_room
from dart_jax.data.external import bbq
from dart_jax.data.external.bbq import BBQQuestion
from dart_jax.evaluate.bbq import BBQ, BBQSummary, scores_by_category
from dart_jax.evaluate.ctxt import mean_mass
from dart_jax.pipeline.finished import check_base
from dart_jax.processes import on_all, on_primary
from dart_jax.prompts.letters import LetterAnswer, letter_messages
from dart_jax.records import write_text
from dart_jax.stages.context import Run
from dart_jax.summaries import to_pretty_json


def evaluate_bbq(run: Run, folder: Path, candidates: Sequence[str], most: int | None) -> BBQSummary:
    """Find each model's letters, sum up; the report gets a section.

    Args:
        folder: Where BBQ's public files are.
        candidates: Models beside M0.
        most: Most questions, spread evenly over categories and contexts; None: all.
    """
    on_primary(lambda: check_base(run.folder, "distill", run.config))
    everything = on_all(lambda: bbq.load(folder))
    seed = run.config.data.seed
    questions = spread(everything, most, lambda q: f"{q.category} {q.ambiguous}", seed)

    prompts = {question.id: letter_messages(question.text) for question in questions}
    answers = {
        name: likely_letters(run, name, "external/bbq", prompts) for name in ("M0", *candidates)
    }

    inputs = on_primary(
        lambda: {
            **measured_inputs(run, candidates, answers),
            "questions": identity_of(questions),
            "of": len(everything),
        }
    )
    work = partial(_write_summary, run, questions, len(everything), answers)
    step(run, "external_bbq", inputs, (BBQ,), lambda: on_primary(work))
    return reported(run, BBQ, BBQSummary)


def _write_summary(
    run: Run,
    questions: Sequence[BBQQuestion],
    of: int,
    answers: Mapping[str, Sequence[LetterAnswer]],
) -> None:
    config, seed = run.config.evaluate, run.config.run.seed
    models = {}
    for name, found in answers.items():
        models[name] = scores_by_category(questions, found, config, seed)

    summary = BBQSummary(
        questions=len(questions),
        of=of,
        no_target=sum(question.biased is None for question in questions),
        no_room=without_room(answers),
        adapters=adapter_hashes(run, [name for name in answers if name != "M0"]),
        confidence=config.confidence,
        models=models,
        mass={name: mean_mass(found) for name, found in answers.items()},
    )
    write_text(run.folder / BBQ, to_pretty_json(summary))
