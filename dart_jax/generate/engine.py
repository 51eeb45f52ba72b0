"""The jitted half of decoding: prefill prompts into slots, then blocks of new tokens.

A slot is a row of the batch. A row may belong to any model: the base, or one of the adapters,
whose ranks stand side by side in one joint adapter (`lora.mix_adapters`), so that the products
with the base weights run once for all rows and a row's own scales say whose delta it gets.

    prefill_prefix   compute the tokens with which all prompts begin, once for every model
    prefill          compute the rest of some prompts, and sample their first new token
    admit            put prefilled prompts into free slots
    decode_block     decode BLOCK more tokens for every slot
    move             go on with fewer slots, when prompts have run out, or with more pages

`decode_block` carries only the small `recent` stores from one step to the next. The row cache is
read in all steps and written once at the end; it is donated, so that this scatter works in place.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from dart_jax.generate.sampling import sample
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.kv_cache import (
    KVCache,
    LayerCache,
    Pages,
    Store,
    append_positions,
    as_layer,
    attend_stores,
    empty_cache,
    insert_positions,
    join_positions,
    rows_of,
    side_by_side,
    write_position,
)
from dart_jax.model.llama import forward, logits_of
from dart_jax.model.sharding import compiler_options, constrain, platform_of, replicated

# New tokens between two checks of the texts by the host: the most that a row decodes past its end.
BLOCK = 8


class DecodeSpec(NamedTuple):
    """The static half of decoding: architecture, sampling, stop tokens and mesh."""

    config: LlamaConfig
    temperature: float
    top_p: float
    top_k: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int
    mesh: Mesh


class Weights(NamedTuple):
    """Weights of all M models that a batch decodes with.

    Attributes:
        base: Base weights.
        lora: Joint adapter of all ranks R; empty without one.
        scales: Each model's scale of every rank [M, R]; the base model's are zeros.
    """

    base: PyTree
    lora: PyTree
    scales: Float[Array, "M R"]


class Slots(NamedTuple):
    """Everything that changes while rows decode.

    Attributes:
        row_cache: Keys and values of each row's own tokens, the shared prefix excluded:
            [B, K, S, H] a layer, or [Q, K, C, H] in Q pages of C positions. New tokens begin at the
            next multiple of BLOCK behind the prompt.
        prompt: Length in tokens of each row's prompt, without the shared prefix [B].
        token: Newest token of each row, not yet fed to the model [B].
        count: New tokens so far [B].
        limit: New tokens at which the row ends [B].
        done: True for rows that have ended, or were never begun [B].
        model: Which model a row belongs to [B].
        keys: Noise key of each row [B].
    """

    row_cache: KVCache
    prompt: Int[Array, " B"]
    token: Int[Array, " B"]
    count: Int[Array, " B"]
    limit: Int[Array, " B"]
    done: Bool[Array, " B"]
    model: Int[Array, " B"]
    keys: Array


class Prompts(NamedTuple):
    """P prompts of T tokens without their shared prefix, right-padded.

    Where there are fewer than P, the first one is repeated; writing it again changes nothing.
    """

    tokens: Int[Array, "P T"]
    lengths: Int[Array, " P"]
    limit: Int[Array, " P"]
    model: Int[Array, " P"]
    keys: Array


def _placed(slots: Slots, mesh: Mesh) -> Slots:
    """Shard the row cache: rows over data and fsdp, key-value heads over tensor."""

    def place(array: Array) -> Array:
        return constrain(array, mesh, "batch", "kv_heads", None, None)

    return slots._replace(row_cache=jax.tree.map(place, slots.row_cache))


def empty_slots(spec: DecodeSpec, rows: int, pages: int, positions: int, dtype: jnp.dtype) -> Slots:
    """Make slots in which nothing runs.

    Args:
        pages: Pages of the row cache; as many as `rows` where each row has a single one.
        positions: Positions of a page.
    """
    slots = Slots(
        row_cache=empty_cache(spec.config, pages, positions, cache_dtype(spec.mesh, dtype)),
        prompt=jnp.zeros((rows,), jnp.int32),
        token=jnp.zeros((rows,), jnp.int32),
        count=jnp.zeros((rows,), jnp.int32),
        limit=jnp.zeros((rows,), jnp.int32),
        done=jnp.ones((rows,), bool),
        model=jnp.zeros((rows,), jnp.int32),
        keys=jax.random.split(jax.random.key(0), rows),
    )
    return _placed(slots, spec.mesh)


def prefill_prefix(weights: Weights, tokens: Int[Array, " P"], spec: DecodeSpec) -> KVCache:
    """Keys and values of the shared prefix under every model: [M, K, P, H] a layer."""
    M, P = weights.scales.shape[0], tokens.shape[0]
    rows = jnp.broadcast_to(tokens, (M, P))
    _, cache = _prefill(weights, rows, jnp.arange(M), None, spec)
    return cache


def _prefill(
    weights: Weights, tokens: Array, model: Array, prefix: KVCache | None, spec: DecodeSpec
) -> tuple[Float[Array, "P T D"], KVCache]:
    """Hidden states of right-padded rows, and their keys and values.

    Padding stands behind all real tokens, so that no real query sees it; what the padding queries
    compute is never read.
    """
    T = tokens.shape[1]
    start = 0 if prefix is None else prefix[0].positions
    # Every query sees the whole prefix, and of its own row what is not later.
    mask = (jnp.arange(start + T)[None] <= start + jnp.arange(T)[:, None])[None]

    def attention(
        query: Array, key: Array, value: Array, shared: LayerCache | None
    ) -> tuple[Array, LayerCache]:
        computed = as_layer(key, value)
        seen = computed if shared is None else join_positions(shared, computed)
        return attend_stores(query, [Store(seen, mask)]), computed

    return forward(
        spec.config,
        weights.base,
        weights.lora,
        tokens,
        jnp.broadcast_to(start + jnp.arange(T), tokens.shape),
        attention,
        lora_scale=weights.scales[model][:, None],
        activations=_activations(spec),
        cache=(None,) * spec.config.num_layers if prefix is None else rows_of(prefix, model),
    )


def _prefix_mask(prefix: KVCache, model: Int[Array, " B"]) -> Bool[Array, "B 1 S"]:
    """True at the positions of each row's own model, where the prefixes of all M stand in a row."""
    M, P = len(prefix[0].value), prefix[0].positions
    return (jnp.arange(M).repeat(P)[None] == model[:, None])[:, None]


def prefill(
    weights: Weights, prefix: KVCache | None, prompts: Prompts, spec: DecodeSpec
) -> tuple[KVCache, Int[Array, " P"]]:
    """Keys and values of some prompts, and each one's first new token."""
    hidden, cache = _prefill(weights, prompts.tokens, prompts.model, prefix, spec)
    last = jnp.take_along_axis(hidden, (prompts.lengths - 1)[:, None, None], axis=1)[:, 0]
    index = jnp.zeros_like(prompts.lengths)
    return cache, _next_token(logits_of(weights.base, last), prompts.keys, index, spec)


def admit(
    slots: Slots,
    prompts: Prompts,
    cache: KVCache,
    token: Int[Array, " P"],
    at: Int[Array, " P"],
    places: Int[Array, "P w"],
    spec: DecodeSpec,
) -> Slots:
    """Put prefilled prompts into slots.

    Args:
        cache, token: From `prefill`.
        at: Slot of each prompt.
        places: Pages of each slot, or the slots again where each has one page.
    """
    updated = Slots(
        row_cache=insert_positions(slots.row_cache, places, cache),
        prompt=slots.prompt.at[at].set(prompts.lengths),
        token=slots.token.at[at].set(token),
        count=slots.count.at[at].set(1),
        limit=slots.limit.at[at].set(prompts.limit),
        done=slots.done.at[at].set(_is_stop(token, spec) | (prompts.limit == 1)),
        model=slots.model.at[at].set(prompts.model),
        keys=slots.keys.at[at].set(prompts.keys),
    )
    return _placed(updated, spec.mesh)


def aligned(length: Any) -> Any:
    """Round up to a multiple of BLOCK: the position at which a prompt's new tokens begin."""
    return -(-length // BLOCK) * BLOCK


def _filled(slots: Slots, used: Int[Array, " B"], pages: Pages | None) -> Bool[Array, "Q 1 C"]:
    """True at positions of the row cache that hold a token.

    These are the positions before `used`, except the gap between the prompt's end and the multiple
    of BLOCK at which its new tokens begin.
    """
    positions, prompt = jnp.arange(slots.row_cache[0].positions)[None], slots.prompt
    if pages is not None:
        positions = pages.start[:, None] + positions
        prompt, used = prompt[pages.owner], used[pages.owner]
    prompt, used = prompt[:, None], used[:, None]
    return ((positions < prompt) | ((positions >= aligned(prompt)) & (positions < used)))[:, None]


def decode_block(
    slots: Slots,
    weights: Weights,
    prefix: KVCache | None,
    going: Bool[Array, " B"],
    pages: Pages | None,
    spec: DecodeSpec,
) -> tuple[Slots, Int[Array, "B R"]]:
    """Decode up to BLOCK more tokens for each row; stop early when every row has ended.

    Args:
        going: Rows that the host has not ended [B].
        pages: Page table of the row cache; None where each row has a single page.

    Returns:
        The slots, and the new tokens [B, BLOCK], of which a row's first `count` - its former count
        are valid.
    """
    B = slots.token.shape[0]
    start = 0 if prefix is None else prefix[0].positions
    visible = None if prefix is None else _prefix_mask(prefix, slots.model)
    shared = (None,) * len(slots.row_cache) if prefix is None else side_by_side(prefix)
    # Holds because every block before this one was full; where one was not, the row has ended.
    used = aligned(slots.prompt) + slots.count - 1
    filled = _filled(slots, used, pages)
    scales = weights.scales[slots.model][:, None]

    def step(carry: tuple) -> tuple:
        index, token, count, done, recent, new_tokens = carry
        so_far = (jnp.arange(BLOCK) <= index)[None, None]

        def attention(query: Array, key: Array, value: Array, past: tuple) -> tuple[Array, tuple]:
            shared, row_cache, recent = past
            recent = write_position(recent, index, as_layer(key, value))
            stores = [Store(row_cache, filled, pages=pages), Store(recent, so_far)]
            if shared is not None:
                stores.insert(0, Store(shared, visible, shared=True))
            return attend_stores(query, stores), (shared, row_cache, recent)

        hidden, past = forward(
            spec.config,
            weights.base,
            weights.lora,
            token[:, None],
            (start + slots.prompt + count - 1)[:, None],
            attention,
            lora_scale=scales,
            activations=_activations(spec),
            cache=list(zip(shared, slots.row_cache, recent, strict=True)),
        )
        recent = tuple(layer for _, _, layer in past)

        logits = logits_of(weights.base, hidden[:, 0])
        token = jnp.where(done, 0, _next_token(logits, slots.keys, count, spec))
        count = count + ~done
        done = done | _is_stop(token, spec) | (count >= slots.limit)
        new_tokens = jax.lax.dynamic_update_slice(new_tokens, token[:, None], (0, index))
        return index + 1, token, count, done, recent, new_tokens

    def go_on(carry: tuple) -> Array:
        index, _, _, done, _, _ = carry
        return (index < BLOCK) & ~jnp.all(done)

    zero, new_tokens = jnp.zeros((), jnp.int32), jnp.zeros((B, BLOCK), jnp.int32)
    recent = empty_cache(spec.config, B, BLOCK, slots.row_cache[0].key.dtype)
    initial = (zero, slots.token, slots.count, slots.done | ~going, recent, new_tokens)
    _, token, count, done, recent, new_tokens = jax.lax.while_loop(go_on, step, initial)

    # Rows that have ended are written, too, and never read: a slot is refilled from position 0, and
    # a row without pages writes to page 0, which belongs to no row.
    row_cache = append_positions(slots.row_cache, used, recent, pages)
    slots = slots._replace(row_cache=row_cache, token=token, count=count, done=done)
    return _placed(slots, spec.mesh), new_tokens


def move(slots: Slots, rows: Int[Array, " b"], places: Int[Array, " q"], spec: DecodeSpec) -> Slots:
    """Select rows, and pages of the row cache (the rows again where each has one page)."""
    row_cache = jax.tree.map(lambda array: array[places], slots.row_cache)
    per_row = jax.tree.map(lambda array: array[rows], slots._replace(row_cache=()))
    return _placed(per_row._replace(row_cache=row_cache), spec.mesh)


def cache_dtype(mesh: Mesh, dtype: jnp.dtype) -> jnp.dtype:
    """Type of the KV cache for weights of type `dtype`.

    It is float32 on a CPU: there, XLA writes to a bfloat16 array through a float32 copy of all of
    it.
    """
    return jnp.dtype("float32") if platform_of(mesh) == "cpu" else dtype


def _activations(spec: DecodeSpec) -> str | None:
    """Type of activations: float32 on a CPU, whose only bfloat16 arithmetic is matrix products."""
    return "float32" if platform_of(spec.mesh) == "cpu" else None


def _next_token(
    logits: Float[Array, "B V"], keys: Array, index: Int[Array, " B"], spec: DecodeSpec
) -> Int[Array, " B"]:
    if spec.min_new_tokens:
        stops = jnp.asarray(spec.stop_ids)
        too_early = (index < spec.min_new_tokens)[:, None]
        logits = logits.at[:, stops].add(jnp.where(too_early, -jnp.inf, 0.0))
    return sample(
        logits,
        keys,
        index,
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
    )


def _is_stop(token: Int[Array, " B"], spec: DecodeSpec) -> Bool[Array, " B"]:
    return jnp.isin(token, jnp.asarray(spec.stop_ids))


class Programs(NamedTuple):
    """The functions of this file, jitted."""

    empty_slots: Any
    prefill_prefix: Any
    prefill: Any
    admit: Any
    decode_block: Any
    move: Any


@cache
def programs(mesh: Mesh) -> Programs:
    """Jit the functions of this file for a mesh; slots that are passed in are donated."""
    jit = partial(jax.jit, static_argnames="spec", compiler_options=compiler_options(mesh))
    # Committed to a single device, as all later slots are: to `admit`, others are another program.
    place = {"out_shardings": replicated(mesh)} if mesh.size == 1 else {}
    sizes = ("spec", "rows", "pages", "positions", "dtype")
    return Programs(
        jax.jit(empty_slots, static_argnames=sizes, **place),
        jit(prefill_prefix),
        jit(prefill),
        jit(admit, donate_argnames="slots"),
        jit(decode_block, donate_argnames="slots"),
        jit(move),
    )
