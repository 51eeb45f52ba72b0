"""How far another base is from the plain one: logits, loss, and what a few steps train on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LoraConfig
from dart_jax.model.llama import forward, logits_of
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams, init_lora
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.optimizer import make_optimizer, make_schedule
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import TrainState, compile_step, place_batch, state_shardings, step_spec

_LENGTH_BUCKET = 64


def logits_difference(model: Model, other: PyTree, examples: Sequence[Example]) -> dict[str, float]:
    """The other base's next-token logits against the model's, over every token but the last."""
    rows = [
        jax.device_get(_difference(model.config, model.base_params, other, *row))
        for row in _rows(examples)
    ]
    count = sum(len(example.tokens) - 1 for example in examples)
    vocabulary = model.config.vocab_size
    return {
        "logits_max_abs_error": float(max(row["max"] for row in rows)),
        "logits_rms_error": float(
            np.sqrt(sum(row["squares"] for row in rows) / count / vocabulary)
        ),
        "logits_rms": float(
            np.sqrt(sum(row["logit_squares"] for row in rows) / count / vocabulary)
        ),
        "kl_nats": float(sum(row["kl"] for row in rows) / count),
        "top1_changed_share": float(sum(row["changed"] for row in rows) / count),
    }


def completion_loss(
    config: LlamaConfig,
    base: PyTree,
    lora_params: LoraParams,
    scale: float,
    examples: Sequence[Example],
) -> float:
    """Mean cross-entropy of the completions' tokens, in nats."""
    prompts = [example.prompt_length for example in examples]
    rows = zip(_rows(examples), prompts, strict=True)
    total = sum(
        float(_loss_sum(config, base, lora_params, scale, *row, prompt)) for row, prompt in rows
    )
    return total / sum(len(e.tokens) - e.prompt_length for e in examples)


def train_adapter(
    model: Model, base: PyTree, examples: Sequence[Example], lora: LoraConfig, sft: SftConfig
) -> LoraParams:
    """An adapter after one epoch on this base, from the same start whatever the base."""
    plan = make_plan(examples, sft, epochs=1, seed=0)
    optimizer = make_optimizer(make_schedule(sft.learning_rate, sft, len(plan)), sft)
    spec = step_spec(model.config, lora, sft, model.mesh)
    start = init_lora(jax.random.key(0), model.config, lora)
    fresh = TrainState(jnp.zeros((), jnp.int32), start, optimizer.init(start))
    state = jax.device_put(fresh, state_shardings(fresh, model.mesh))
    step = compile_step(spec, optimizer, model.mesh, fresh)
    for index in range(len(plan)):
        planned = plan[index]
        batch = place_batch(planned.batch, model.mesh)
        state, _ = step(state, base, batch, jax.random.key(0), layout=planned.layout)
    return state.lora_params


def _rows(examples: Sequence[Example]) -> list[tuple[np.ndarray, int]]:
    """Token ids of each example, all padded to one length, and their number."""
    longest = max(len(example.tokens) for example in examples)
    length = -(-longest // _LENGTH_BUCKET) * _LENGTH_BUCKET
    padded = [np.pad(e.tokens, (0, length - len(e.tokens))).astype(np.int32) for e in examples]
    return [(row, len(e.tokens)) for row, e in zip(padded, examples, strict=True)]


def _logits(
    config: LlamaConfig, base: PyTree, lora_params: PyTree, scale: float | Array, tokens: Array
) -> Array:
    """[T, V] of one row; padding comes last, so that causality keeps it away."""
    positions = jnp.arange(tokens.shape[0])[None]
    attention = dense_attention(segment_mask(positions, jnp.ones_like(positions)))
    hidden, _ = forward(
        config, base, lora_params, tokens[None], positions, attention, lora_scale=scale
    )
    return logits_of(base, hidden[0])


@partial(jax.jit, static_argnames="config")
def _difference(
    config: LlamaConfig, base: PyTree, other: PyTree, tokens: Array, count: Array
) -> dict[str, Any]:
    """Sums (and the maximum) over the positions that predict one of the row's tokens."""
    expected, found = (_logits(config, params, {}, 0.0, tokens) for params in (base, other))
    counted = (jnp.arange(tokens.shape[0]) < count - 1)[:, None]
    error = jnp.where(counted, found - expected, 0.0)
    p, q = jax.nn.log_softmax(expected), jax.nn.log_softmax(found)
    changed = expected.argmax(-1, keepdims=True) != found.argmax(-1, keepdims=True)
    return {
        "max": jnp.abs(error).max(),
        "squares": (error**2).sum(),
        "logit_squares": jnp.where(counted, expected**2, 0.0).sum(),
        "kl": jnp.where(counted, jnp.exp(p) * (p - q), 0.0).sum(),
        "changed": (changed & counted).sum(),
    }


@partial(jax.jit, static_argnames="config")
def _loss_sum(
    config: LlamaConfig,
    base: PyTree,
    lora_params: PyTree,
    scale: Array | float,
    tokens: Array,
    count: Array,
    prompt: Array,
) -> Array:
    log_probs = jax.nn.log_softmax(_logits(config, base, lora_params, scale, tokens)[:-1])
    each = jnp.take_along_axis(log_probs, tokens[1:, None], axis=1)[:, 0]
    target = jnp.arange(1, tokens.shape[0])
    return -jnp.where((target >= prompt) & (target < count), each, 0.0).sum()
