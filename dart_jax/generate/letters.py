"""Find out which option letter a model finds likeliest as the beginning of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dart_jax.generate.batches import batch_rows, in_batches
from dart_jax.generate.plan import Request
from dart_jax.generate.scoring import continuation_log_probs
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.prompts.letters import LETTERS, NO_ROOM, LetterAnswer
from dart_jax.run_dir import ResultFile


def likeliest_letters(
    model: Model,
    adapter: tuple[LoraParams, float],
    prompts: Sequence[Request],
    path: Path,
) -> list[LetterAnswer]:
    """Choose a letter for each prompt that `path` holds none of yet; appended as they are known.

    Args:
        adapter: Weights and scale; empty, or at scale 0, for the base model.
        prompts: Questions that ask for a letter; `adapter` of each is the model's name.

    Returns:
        All answers, in the order of `prompts`.
    """
    letters = [model.tokenizer.encode_text(letter) for letter in LETTERS]
    rows = batch_rows(model)

    def compute(batch: Sequence[Request]) -> list[LetterAnswer]:
        tokens = [prompt.tokens for prompt in batch]
        scores = continuation_log_probs(model, tokens, letters, rows, adapter)
        return [_answer(prompt, row) for prompt, row in zip(batch, scores, strict=True)]

    return in_batches(
        prompts,
        rows,
        ResultFile(path, LetterAnswer),
        "letters",
        compute,
        id_of=lambda prompt: prompt.id,
        length_of=lambda prompt: prompt.length,
    )


def _answer(prompt: Request, log_probs: np.ndarray) -> LetterAnswer:
    if np.isnan(log_probs).any():
        return LetterAnswer(prompt.id, prompt.adapter, None, None, NO_ROOM)
    values = tuple(float(value) for value in log_probs)
    # Of equally likely letters the first is taken, on every machine.
    return LetterAnswer(prompt.id, prompt.adapter, int(np.argmax(log_probs)), values, None)
