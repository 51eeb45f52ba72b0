"""Log-likelihood of given continuations of a prompt, and the YES/NO margin.

All continuations of a prompt are scored in a single row:

    row         p p p p a a b b b .       prompt p, continuations a and b, padding
    positions   0 1 2 3 4 5 4 5 6 0       every continuation goes on from the prompt
    segments   -1-1-1-1 1 1 2 2 2 0       and sees the prompt and itself

The prompt is computed once, however many continuations it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from dart_jax.generate.plan import common_prefix_of
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import SHARED, dense_attention, segment_mask
from dart_jax.model.llama import forward, logits_of
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.processes import to_host
from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.records import Decision

# Rows are padded to a multiple of this, so that few lengths are compiled.
_BUCKET = 64


def continuation_log_probs(
    model: Model,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    batch_size: int,
    adapter: tuple[LoraParams, float] = ({}, 0.0),
) -> np.ndarray:
    """Sum the log-probabilities of each continuation's tokens after each prompt.

    Args:
        prompts: Token ids.
        continuations: Token ids, the same for every prompt.
        adapter: Weights and scale; empty for the base model.

    Returns:
        float64 [len(prompts), len(continuations)], nats; a row of nan for a prompt that with the
        longest continuation would leave the context.
    """
    room = model.config.context_length - max(len(c) for c in continuations)
    result = np.full((len(prompts), len(continuations)), np.nan)
    fitting = [index for index, prompt in enumerate(prompts) if len(prompt) <= room]
    # Like lengths together, since a batch is padded to its longest row.
    fitting.sort(key=lambda index: -len(prompts[index]))

    for start in range(0, len(fitting), batch_size):
        chosen = fitting[start : start + batch_size]
        rows = [_row(prompts[index], continuations) for index in chosen]
        # Filled up, so that the last batch needs no program of its own.
        rows += [rows[0]] * (batch_size - len(rows))
        result[chosen] = _score_rows(model, rows, continuations, adapter)[: len(chosen)]
    return result


def conclusion_margins(
    model: Model,
    prompts: Sequence[Sequence[int]],
    analyses: Sequence[str],
    batch_size: int,
    adapter: tuple[LoraParams, float] = ({}, 0.0),
) -> np.ndarray:
    """Log-odds of `Conclusion: YES` against `Conclusion: NO` behind each analysis.

    Both answers are tokenised whole, as in training, and differ in their last tokens only: the
    tokens that they have in common are computed once.

    Args:
        prompts: Token ids.
        analyses: Text before the conclusion line, by the model or given; may be ''.

    Returns:
        float64 [len(prompts)], nats: the log-odds of YES against NO; nan where it does not fit.
    """
    encode = model.tokenizer.encode_text
    # Prompts by the tokens in which their two answers differ: index, and the tokens before those.
    by_tails: dict[tuple[tuple[int, ...], ...], list[tuple[int, list[int]]]] = defaultdict(list)
    for index, (prompt, analysis) in enumerate(zip(prompts, analyses, strict=True)):
        lead = f"{analysis}\n" if analysis else ""
        yes = encode(lead + conclusion_line(Decision.YES))
        no = encode(lead + conclusion_line(Decision.NO))
        common = len(common_prefix_of(yes, no))
        tails = (tuple(yes[common:]), tuple(no[common:]))
        by_tails[tails].append((index, [*prompt, *yes[:common]]))

    margins = np.full(len(prompts), np.nan)
    for tails, members in by_tails.items():
        heads = [head for _, head in members]
        scores = continuation_log_probs(model, heads, tails, batch_size, adapter)
        margins[[index for index, _ in members]] = scores[:, 0] - scores[:, 1]
    return margins


def _row(prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> np.ndarray:
    """Lay out a prompt and its continuations in one row.

    Returns:
        int32 [4, T]: tokens, positions, segments, and for each token the index of the query that
        predicts it.
    """
    n = len(prompt)
    columns = [(token, i, SHARED, -1) for i, token in enumerate(prompt)]
    for number, continuation in enumerate(continuations):
        for i, token in enumerate(continuation):
            # Each continuation's first token follows the prompt, not the continuation laid before
            # it.
            predictor = n - 1 if i == 0 else len(columns) - 1
            columns.append((token, n + i, 1 + number, predictor))
    return np.asarray(columns, np.int32).T


def _score_rows(
    model: Model,
    rows: list[np.ndarray],
    continuations: Sequence[Sequence[int]],
    adapter: tuple[LoraParams, float],
) -> np.ndarray:
    """Log-probability of each continuation in each row of `_row`; float64 [rows, continuations]."""
    length = -(-max(row.shape[1] for row in rows) // _BUCKET) * _BUCKET
    stacked = np.stack([np.pad(row, ((0, 0), (0, length - row.shape[1]))) for row in rows])
    scored = sum(len(c) for c in continuations)
    starts = np.asarray([row.shape[1] - scored for row in rows], np.int32)

    lora_params, scale = adapter
    log_probs = _token_log_probs(
        model.base_params, lora_params, scale, stacked, starts, model.config, scored, model.mesh
    )
    per_token = to_host(log_probs).astype(np.float64)

    edges = np.cumsum([0, *(len(c) for c in continuations)])
    return np.add.reduceat(per_token, edges[:-1], axis=1)


@partial(jax.jit, static_argnames=("config", "scored", "mesh"))
def _token_log_probs(
    base_params: PyTree,
    lora_params: PyTree,
    lora_scale: Array | float,
    rows: Array,
    starts: Array,
    config: LlamaConfig,
    scored: int,
    mesh: Mesh,
) -> Float[Array, "B C"]:
    """Log-probability of the `scored` tokens of each row that begin at `starts`."""
    tokens, positions, segments, predictors = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]
    attention = dense_attention(segment_mask(positions, segments))
    hidden, _ = forward(
        config,
        base_params,
        lora_params,
        tokens,
        positions,
        attention,
        lora_scale=lora_scale,
        mesh=mesh,
    )

    where = starts[:, None] + jnp.arange(scored)
    target = jnp.take_along_axis(tokens, where, axis=1)
    source = jnp.take_along_axis(predictors, where, axis=1)

    def row(pair: tuple[Array, Array]) -> Array:
        h, t = pair
        logits = logits_of(base_params, h)
        picked = jnp.take_along_axis(logits, t[:, None], axis=1)[:, 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    # A row at a time: [B, C, V] logits at once would be the largest array of the program.
    queries = jnp.take_along_axis(hidden, source[..., None], axis=1)
    return jax.lax.map(row, (queries, target))
