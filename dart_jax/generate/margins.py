"""A forced decision for every answer: which conclusion line is likelier behind its analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.batches import batch_rows, of_each_answer
from dart_jax.generate.scoring import conclusion_margins
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.prompts.conclusion import Margin, analysis_of
from dart_jax.records import Generation, Question
from dart_jax.run_dir import ResultFile


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
    concluding = [answer for answer in answers if answer.concludes and answer.had_room]
    rows = batch_rows(model)
    return of_each_answer(
        concluding,
        rows,
        ResultFile(path, Margin),
        f"{answers[0].model} concludes",
        lambda batch: _margins(model, adapter, questions, batch, rows, policy),
    )


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
