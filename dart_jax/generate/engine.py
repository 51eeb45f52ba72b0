"""The jitted half of decoding: prefill a batch of prompts, then blocks of new tokens.

Slots of a row's cache, for prompts padded to S = 4 and up to N = 3 new tokens (x: holds a token):

    slot        0  1  2  3 | 4  5  6        a prompt of 3 tokens, two new tokens fed so far
    prompt      x  x  x  . |                positions 0 1 2
    new                    | x  x  .        positions 3 4

Prompts start at slot 0 and new tokens at slot S for every row, so that one slot index serves the
whole batch: a per-row scatter into the cache costs more than the padding does.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from dart_jax.generate.sampling import sample
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import dense_attention
from dart_jax.model.kv_cache import KVCache, empty_cache
from dart_jax.model.llama import forward, logits_of


class Decoding(NamedTuple):
    """Everything that changes while a batch decodes.

    Attributes:
        cache: Slots of S prompt tokens and N new ones.
        tokens: New tokens so far [B, N]; 0 beyond `count`.
        count: New tokens of each row [B], its stop token included.
        index: New tokens sampled by the rows still going (scalar).
        done: Rows that have ended [B].
        keys: Noise key of each row [B].
        lengths: Prompt tokens of each row [B].
    """

    cache: KVCache
    tokens: Int[Array, "B N"]
    count: Int[Array, " B"]
    index: Array
    done: Array
    keys: Array
    lengths: Int[Array, " B"]


class DecodeSpec(NamedTuple):
    """The static half of decoding."""

    config: LlamaConfig
    temperature: float
    top_p: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int = 0


@partial(jax.jit, static_argnames="spec")
def prefill(
    base_params: PyTree,
    lora_params: PyTree,
    lora_scale: Array,
    prompts: Int[Array, "B S"],
    lengths: Int[Array, " B"],
    keys: Array,
    spec: DecodeSpec,
) -> Decoding:
    """Run the padded prompts once and sample each row's first new token."""
    B, S = prompts.shape
    slots = S + spec.max_new_tokens
    dtype = base_params["embed"].dtype
    positions = jnp.broadcast_to(jnp.arange(S), (B, S))
    # Padding queries look at real keys; nobody reads them, and real queries never see padding.
    mask = (jnp.arange(slots)[None, None, :] <= positions[:, :, None]) & (
        jnp.arange(slots)[None, None, :] < lengths[:, None, None]
    )
    hidden, cache = forward(
        spec.config,
        base_params,
        lora_params,
        prompts,
        positions,
        dense_attention(mask),
        lora_scale=lora_scale,
        cache=empty_cache(spec.config, B, slots, dtype),
    )
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    start = Decoding(
        cache=cache,
        tokens=jnp.zeros((B, spec.max_new_tokens), jnp.int32),
        count=jnp.zeros((B,), jnp.int32),
        index=jnp.zeros((), jnp.int32),
        done=jnp.zeros((B,), bool),
        keys=keys,
        lengths=lengths,
    )
    return _append(start, logits_of(base_params, last), spec)


@partial(jax.jit, static_argnames=("spec", "block"), donate_argnames="state")
def decode_block(
    state: Decoding,
    base_params: PyTree,
    lora_params: PyTree,
    lora_scale: Array,
    spec: DecodeSpec,
    block: int,
) -> Decoding:
    """Up to `block` more tokens for each row; stops early when every row has ended."""
    S = state.cache[0].key.shape[2] - spec.max_new_tokens
    end = jnp.minimum(state.index + block, spec.max_new_tokens)

    def go_on(state: Decoding) -> Array:
        return (state.index < end) & ~jnp.all(state.done)

    def step(state: Decoding) -> Decoding:
        fed = state.index - 1
        last = jax.lax.dynamic_index_in_dim(state.tokens, fed, axis=1)
        slots = jnp.arange(state.cache[0].key.shape[2])[None, :]
        is_prompt = slots < state.lengths[:, None]
        is_new = (slots >= S) & (slots <= S + fed)
        hidden, cache = forward(
            spec.config,
            base_params,
            lora_params,
            last,
            (state.lengths + fed)[:, None],
            dense_attention((is_prompt | is_new)[:, None, :]),
            lora_scale=lora_scale,
            cache=state.cache,
            slot=S + fed,
        )
        return _append(state._replace(cache=cache), logits_of(base_params, hidden[:, 0]), spec)

    return jax.lax.while_loop(go_on, step, state)


def _append(state: Decoding, logits: Array, spec: DecodeSpec) -> Decoding:
    """Sample the next token of every row that is still going."""
    stops = jnp.asarray(spec.stop_ids)
    if spec.min_new_tokens:
        too_early = state.index < spec.min_new_tokens
        logits = logits.at[:, stops].add(jnp.where(too_early, -jnp.inf, 0.0))
    token = sample(logits, state.keys, state.index, temperature=spec.temperature, top_p=spec.top_p)
    token = jnp.where(state.done, 0, token)
    is_stop = jnp.isin(token, stops)
    return state._replace(
        tokens=jax.lax.dynamic_update_slice(state.tokens, token[:, None], (0, state.index)),
        count=state.count + ~state.done,
        index=state.index + 1,
        done=state.done | is_stop,
    )
