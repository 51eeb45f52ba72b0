"""A forced decision for every answer: which conclusion line is likelier behind its analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.scoring import conclusion_margins
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.model.sharding import data_parallel
from dart_jax.processes import progress
from dart_jax.prompts.conclusion import Margin, analysis_of
from dart_jax.records import Generation, Question
from dart_jax.run_dir import ResultFile

# Answers computed together; more of them where there are more devices to spread them over.
_LEAST_ROWS = 8


def answer_margins(
    model: Model,
    adapter: tuple[LoraParams, float],
    questions: Mapping[str, Question],
    answers: Sequence[Generation],
    path: Path,
    policy: bool = False,
) -> list[Margin]:
    """Compute the margins that `path` does not hold yet; each is appended as it is known.

    A conclusion that the model wrote itself is not read: it is removed from the analysis as every
    conclusion line is. An answer whose prompt left no room, or asks for no conclusion, has no
    margin.

    Args:
        adapter: The weights and scale that the answers were written with; empty for the base model.
        questions: What was asked, by id.
        answers: One model's answers, at least one.
        policy: Whether they were asked with the explanation policy in the system prompt.

    Returns:
        All margins, in the order of `answers`.
    """
    results = ResultFile(path, Margin)
    known = {margin.question_id for margin in results.records}
    concluding = [answer for answer in answers if answer.concludes and answer.had_room]
    # The longest come first: if memory runs out, it does so at once. Batches of like lengths are
    # padded little, and few lengths are compiled.
    concluding.sort(
        key=lambda answer: (-answer.prompt_tokens - answer.new_tokens, answer.question_id)
    )
    rows = _rows(model)

    with progress(f"{answers[0].model} concludes", len(concluding), len(known)) as bar:
        for start in range(0, len(concluding), rows):
            batch = concluding[start : start + rows]
            missing = {answer.question_id for answer in batch} - known
            if missing:
                # Computed whole, so that a run that was killed rounds as one left in peace.
                margins = _margins(model, adapter, questions, batch, rows, policy)
                results.add([margin for margin in margins if margin.question_id in missing])
                bar.update(len(missing))

    order = {answer.question_id: index for index, answer in enumerate(answers)}
    return results.finish(lambda margin: order[margin.question_id])


def _rows(model: Model) -> int:
    """Number of answers in a batch: the same on every device."""
    devices = data_parallel(model.mesh)
    return -(-_LEAST_ROWS // devices) * devices


def _margins(
    model: Model,
    adapter: tuple[LoraParams, float],
    questions: Mapping[str, Question],
    batch: Sequence[Generation],
    rows: int,
    policy: bool,
) -> list[Margin]:
    """Compute the margins of one batch of answers."""
    prompts = answer_prompts([questions[answer.question_id] for answer in batch], model, policy)
    tokens = [prompt.tokens for prompt in prompts]
    analyses = [analysis_of(answer) for answer in batch]

    margins = []
    for answer, log_odds in zip(
        batch, conclusion_margins(model, tokens, analyses, rows, adapter), strict=True
    ):
        has_room = not np.isnan(log_odds)
        value = float(log_odds) if has_room else None
        margins.append(Margin(answer.question_id, answer.model, value))
    return margins
