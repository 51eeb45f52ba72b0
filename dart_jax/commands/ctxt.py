"""Ask a run's models its test questions in the suite's own form, by letter: DiffAware, CtxtAware.

ctxt/letters/<model>.jsonl   the likeliest letter after each question, and how likely each is
ctxt/answers/<model>.jsonl   what the models wrote, where letters are generated
ctxt/summary.json            the metrics by model and benchmark
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from dart_jax.commands.external_prompts import (
    adapter_hashes,
    identity_of,
    measured_inputs,
    reported,
    spread,
    step,
)
from dart_jax.commands.letters import likely_letters, without_room, written_letters
from dart_jax.data.splits import make_splits
from dart_jax.evaluate.ctxt import CTXT, CtxtSummary, awareness_by_benchmark, mean_mass
from dart_jax.pipeline.finished import check_base
from dart_jax.processes import on_all, on_primary
from dart_jax.prompts.letters import LetterAnswer, LetterSource, letter_messages
from dart_jax.records import Question, write_text
from dart_jax.settings import BadSetting
from dart_jax.stages.context import Run
from dart_jax.summaries import to_pretty_json

AMERICAN = ("D2", "D3", "N3")
"""Benchmarks that are asked about the United States, as their authors ask them."""


def evaluate_ctxt(
    run: Run, candidates: Sequence[str], most: int | None, letters: LetterSource
) -> CtxtSummary:
    """Find each model's letters, sum up; the report gets a section.

    Args:
        candidates: Models beside M0.
        most: Most questions, spread evenly over benchmarks and labels; None: all.

    Raises:
        BadSetting: The run's questions have no options.
    """
    on_primary(lambda: check_base(run.folder, "distill", run.config))
    # Not the run's own, in which a line may ask for the harm where faults are planted.
    everything = on_all(lambda: make_splits(run.config.data)["test"])
    if any(question.answer < 0 or question.condition is None for question in everything):
        raise BadSetting(
            f"data.suite {run.config.data.suite}: its questions have no options (a), (b), (c); "
            "the metrics are of difference_awareness, and of mini"
        )
    seed = run.config.data.seed
    questions = spread(everything, most, lambda q: f"{q.benchmark} {q.condition}", seed)

    prompts = {}
    for question in questions:
        american = question.benchmark in AMERICAN
        prompts[question.id] = letter_messages(question.text, american=american)
    find = likely_letters if letters == "likelihood" else written_letters
    answers = {name: find(run, name, "ctxt", prompts) for name in ("M0", *candidates)}

    inputs = on_primary(
        lambda: {
            **measured_inputs(run, candidates, answers),
            "questions": identity_of(questions),
            "of": len(everything),
            "letters": letters,
        }
    )
    work = partial(_write_summary, run, questions, len(everything), answers, letters)
    step(run, "ctxt", inputs, (CTXT,), lambda: on_primary(work))
    return reported(run, CTXT, CtxtSummary)


def _write_summary(
    run: Run,
    questions: Sequence[Question],
    of: int,
    answers: Mapping[str, Sequence[LetterAnswer]],
    letters: LetterSource,
) -> None:
    config, seed = run.config.evaluate, run.config.run.seed
    models = {}
    for name, found in answers.items():
        models[name] = awareness_by_benchmark(questions, found, config, seed)

    summary = CtxtSummary(
        questions=len(questions),
        of=of,
        letters=letters,
        no_room=without_room(answers),
        adapters=adapter_hashes(run, [name for name in answers if name != "M0"]),
        confidence=config.confidence,
        models=models,
        mass={name: mean_mass(found) for name, found in answers.items()},
    )
    write_text(run.folder / CTXT, to_pretty_json(summary))
