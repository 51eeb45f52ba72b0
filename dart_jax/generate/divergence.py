"""Measure how far an adapter moves the first words: KL divergence of two next-token distributions.

Both read the same prompt and the same answer, so that nothing is sampled; each distribution is
over the whole vocabulary:

    row      p p p p a b c          prompt p, the beginning of the answer
    places         0 1 2 3          what follows p, p a, p a b and p a b c
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from dart_jax.generate.answers import answer_prompts
from dart_jax.generate.batches import batch_rows, of_each_answer
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.llama import forward, logits_of
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.processes import to_host
from dart_jax.records import Generation, Question
from dart_jax.run_dir import ResultFile

# Rows are padded to a multiple of this, so that few lengths are compiled.
_BUCKET = 64


@dataclass(frozen=True)
class Divergence:
    """The divergence of two models along the beginning of one answer.

    Attributes:
        kl: KL(baseline || candidate), mean over the places, in nats a token.
        places: Number of places: the answer's tokens and the one after its last, at most as many
            as were asked for.
    """

    question_id: str
    kl: float
    places: int


def answer_divergences(
    model: Model,
    baseline: tuple[LoraParams, float],
    candidate: tuple[LoraParams, float],
    questions: Mapping[str, Question],
    answers: Sequence[Generation],
    first_tokens: int,
    path: Path,
    policy: bool = False,
) -> list[Divergence]:
    """Compute the divergences that `path` does not hold yet; each is appended as it is known.

    Args:
        baseline, candidate: Weights and scale of each adapter.
        questions: What was asked, by id.
        answers: The baseline's. One whose prompt left no room has no divergence.
        first_tokens: Greatest number of places.
        policy: Whether they were asked with the explanation policy in the system prompt.

    Returns:
        All divergences, in the order of `answers`.
    """
    rows = batch_rows(model)

    def compute(batch: Sequence[Generation]) -> list[Divergence]:
        asked = [questions[answer.question_id] for answer in batch]
        prompts = [prompt.tokens for prompt in answer_prompts(asked, model, policy)]
        texts = [answer.text for answer in batch]
        found = first_divergences(model, baseline, candidate, prompts, texts, first_tokens, rows)
        return [
            Divergence(answer.question_id, kl, places)
            for answer, (kl, places) in zip(batch, found, strict=True)
        ]

    answered = [answer for answer in answers if answer.had_room]
    results = ResultFile(path, Divergence)
    return of_each_answer(answered, rows, results, "M_DART beside M_int", compute)


def first_divergences(
    model: Model,
    baseline: tuple[LoraParams, float],
    candidate: tuple[LoraParams, float],
    prompts: Sequence[Sequence[int]],
    texts: Sequence[str],
    first_tokens: int,
    rows: int,
) -> list[tuple[float, int]]:
    """KL(baseline || candidate) behind each prompt and the beginning of its text, in one batch.

    Args:
        prompts: Token ids; each leaves room for one token or more in the context.
        texts: Tokenised anew, whole.
        first_tokens: Greatest number of places.
        rows: Rows of the batch, at least the number of prompts.

    Returns:
        Mean over the places (nats) and number of places, for each prompt.
    """
    beginnings = []
    for prompt, text in zip(prompts, texts, strict=True):
        room = model.config.context_length - len(prompt)
        # The last place predicts a token that need not be fed.
        beginnings.append(model.tokenizer.encode_text(text)[: min(first_tokens - 1, room)])

    whole = [[*prompt, *begin] for prompt, begin in zip(prompts, beginnings, strict=True)]
    length = -(-max(map(len, whole)) // _BUCKET) * _BUCKET
    # Filled up with padding, so that the last batch needs no program of its own.
    tokens = np.zeros((rows, length), np.int32)
    segments = np.zeros((rows, length), np.int32)
    starts = np.zeros(rows, np.int32)
    for index, row in enumerate(whole):
        tokens[index, : len(row)] = row
        segments[index, : len(row)] = 1
        starts[index] = len(prompts[index]) - 1

    # Places beyond the answer's end are computed, too, and left out of the mean.
    places = np.minimum(starts[:, None] + np.arange(first_tokens), length - 1)
    hidden = []
    for lora_params, scale in (baseline, candidate):
        hidden.append(
            _hidden(
                model.base_params,
                lora_params,
                scale,
                tokens,
                segments,
                places,
                model.config,
                model.mesh,
            )
        )
    per_place = to_host(_kl(model.base_params, *hidden)).astype(np.float64)

    found = []
    for index, begin in enumerate(beginnings):
        count = len(begin) + 1
        # Rounding may leave a divergence of 0 slightly below it.
        found.append((max(0.0, float(per_place[index, :count].mean())), count))
    return found


@partial(jax.jit, static_argnames=("config", "mesh"))
def _hidden(
    base_params: PyTree,
    lora_params: PyTree,
    lora_scale: Array | float,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    places: Int[Array, "B P"],
    config: LlamaConfig,
    mesh: Mesh,
) -> Float[Array, "B P D"]:
    """Hidden states at some places of each row; compiled once for both adapters."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = forward(
        config,
        base_params,
        lora_params,
        tokens,
        positions,
        dense_attention(segment_mask(positions, segments)),
        lora_scale=lora_scale,
        mesh=mesh,
    )
    return jnp.take_along_axis(hidden, places[..., None], axis=1)


@jax.jit
def _kl(
    base_params: PyTree, baseline: Float[Array, "B P D"], candidate: Float[Array, "B P D"]
) -> Float[Array, "B P"]:
    """KL divergence of the candidate's distribution from the baseline's at each place, in nats."""

    def row(pair: tuple[Array, Array]) -> Array:
        log_p, log_q = [jax.nn.log_softmax(logits_of(base_params, hidden)) for hidden in pair]
        return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)

    # A row at a time: [B, P, V] logits at once would be the largest array of the program.
    return jax.lax.map(row, (baseline, candidate))
