"""The jitted half of decoding: prefill prompts into slots, then blocks of new tokens.

A slot is a row of the batch. A row may belong to any model: the base, or one of the adapters,
whose ranks stand side by side in one joint adapter (`lora.mix_adapters`), so that the products
with the base weights run once for all rows and a row's own scales say whose delta it gets.

    prefill_prefix   the tokens with which all prompts begin, once for every model
    prefill          the rest of some prompts; their first new token
    admit            prefilled prompts into free slots
    decode_block     BLOCK more tokens for every slot
    move             to fewer slots, when prompts have run out; to more pages, when they have

What `decode_block` carries from one step to the next are the small `recent` stores; the rows' own
columns are read only, and donated, so that the scatter at its end works in place.
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
    append_columns,
    as_layer,
    attend_stores,
    empty_cache,
    insert_columns,
    join_columns,
    rows_of,
    side_by_side,
    write_column,
)
from dart_jax.model.llama import forward, logits_of
from dart_jax.model.sharding import compiler_options, constrain, platform_of

# New tokens between two looks at the texts: the most that a row decodes past its end.
BLOCK = 8


class DecodeSpec(NamedTuple):
    """The static half of decoding."""

    config: LlamaConfig
    temperature: float
    top_p: float
    top_k: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int
    mesh: Mesh


class Weights(NamedTuple):
    """What decoding reads.

    Attributes:
        base: Base weights.
        lora: Joint adapter of all ranks R; empty without one.
        scales: Each model's share of the ranks [M, R]; the base model's are zeros.
    """

    base: PyTree
    lora: PyTree
    scales: Float[Array, "M R"]


class Slots(NamedTuple):
    """Everything that changes while rows decode.

    Attributes:
        own: Keys and values of each row's own tokens: [B, K, S, H] a layer, or [Q, K, C, H] in
            Q pages of C columns. New tokens begin at the next multiple of BLOCK behind the prompt.
        prompt: Tokens of each row's own prompt [B].
        token: Newest token of each row, not yet fed [B].
        count: New tokens so far [B].
        limit: New tokens at which the row ends [B].
        done: Rows that have ended, or were never begun [B].
        model: Which model a row belongs to [B].
        keys: Noise key of each row [B].
    """

    own: KVCache
    prompt: Int[Array, " B"]
    token: Int[Array, " B"]
    count: Int[Array, " B"]
    limit: Int[Array, " B"]
    done: Bool[Array, " B"]
    model: Int[Array, " B"]
    keys: Array


class Prompts(NamedTuple):
    """Some prompts without their shared prefix, right-padded.

    Where there are fewer than P, the first stands in for the others: it is written again.
    """

    tokens: Int[Array, "P T"]
    lengths: Int[Array, " P"]
    limit: Int[Array, " P"]
    model: Int[Array, " P"]
    keys: Array


def _placed(slots: Slots, mesh: Mesh) -> Slots:
    """Rows over data and fsdp, key-value heads over tensor."""

    def cache(array: Array) -> Array:
        return constrain(array, mesh, "batch", "kv_heads", None, None)

    return slots._replace(own=jax.tree.map(cache, slots.own))


def empty_slots(spec: DecodeSpec, rows: int, pages: int, columns: int, dtype: jnp.dtype) -> Slots:
    """Slots in which nothing runs, with so many pages; as many as rows where each has one."""
    slots = Slots(
        own=empty_cache(spec.config, pages, columns, cache_dtype(spec.mesh, dtype)),
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

    Padding queries see real keys; nobody reads them, and real queries never see padding.
    """
    T = tokens.shape[1]
    start = 0 if prefix is None else prefix[0].columns
    # Every query sees the whole prefix, and of its own row what is not later.
    mask = (jnp.arange(start + T)[None] <= start + jnp.arange(T)[:, None])[None]

    def attention(
        query: Array, key: Array, value: Array, shared: LayerCache | None
    ) -> tuple[Array, LayerCache]:
        own = as_layer(key, value)
        seen = own if shared is None else join_columns(shared, own)
        return attend_stores(query, [Store(seen, mask)]), own

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
    """The columns of each row's model, of those of all models."""
    M, P = len(prefix[0].value), prefix[0].columns
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
        at: The slots.
        places: Their pages, or the slots again where each has one page.
    """
    updated = Slots(
        own=insert_columns(slots.own, places, cache),
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
    """The next multiple of BLOCK: where the new tokens of a prompt so long begin."""
    return -(-length // BLOCK) * BLOCK


def _filled(slots: Slots, used: Int[Array, " B"], pages: Pages | None) -> Bool[Array, "Q 1 C"]:
    """Which columns of `own` hold a token: those before `used`, but for the gap."""
    columns, prompt = jnp.arange(slots.own[0].columns)[None], slots.prompt
    if pages is not None:
        columns = pages.start[:, None] + columns
        prompt, used = prompt[pages.owner], used[pages.owner]
    prompt, used = prompt[:, None], used[:, None]
    return ((columns < prompt) | ((columns >= aligned(prompt)) & (columns < used)))[:, None]


def decode_block(
    slots: Slots,
    weights: Weights,
    prefix: KVCache | None,
    going: Bool[Array, " B"],
    pages: Pages | None,
    spec: DecodeSpec,
) -> tuple[Slots, Int[Array, "B R"]]:
    """Up to BLOCK more tokens for each row; stops early when every row has ended.

    Args:
        going: Rows that the host has not ended [B].
        pages: Of the rows; None where each has a single one.

    Returns:
        The slots, and the new tokens [B, BLOCK]: a row's first `count` - its former count.
    """
    B = slots.token.shape[0]
    start = 0 if prefix is None else prefix[0].columns
    visible = None if prefix is None else _prefix_mask(prefix, slots.model)
    shared = (None,) * len(slots.own) if prefix is None else side_by_side(prefix)
    # Every block before this one was full, or the row has ended.
    used = aligned(slots.prompt) + slots.count - 1
    filled = _filled(slots, used, pages)
    scales = weights.scales[slots.model][:, None]

    def step(carry: tuple) -> tuple:
        index, token, count, done, recent, made = carry
        so_far = (jnp.arange(BLOCK) <= index)[None, None]

        def attention(query: Array, key: Array, value: Array, past: tuple) -> tuple[Array, tuple]:
            shared, own, new = past
            new = write_column(new, index, as_layer(key, value))
            stores = [Store(own, filled, pages=pages), Store(new, so_far)]
            if shared is not None:
                stores.insert(0, Store(shared, visible, shared=True))
            return attend_stores(query, stores), (shared, own, new)

        hidden, past = forward(
            spec.config,
            weights.base,
            weights.lora,
            token[:, None],
            (start + slots.prompt + count - 1)[:, None],
            attention,
            lora_scale=scales,
            activations=_activations(spec),
            cache=list(zip(shared, slots.own, recent, strict=True)),
        )
        logits = logits_of(weights.base, hidden[:, 0])
        token = jnp.where(done, 0, _next_token(logits, slots.keys, count, spec))
        count = count + ~done
        done = done | _is_stop(token, spec) | (count >= slots.limit)
        made = jax.lax.dynamic_update_slice(made, token[:, None], (0, index))
        return index + 1, token, count, done, tuple(new for _, _, new in past), made

    def go_on(carry: tuple) -> Array:
        index, _, _, done, _, _ = carry
        return (index < BLOCK) & ~jnp.all(done)

    zero, made = jnp.zeros((), jnp.int32), jnp.zeros((B, BLOCK), jnp.int32)
    recent = empty_cache(spec.config, B, BLOCK, slots.own[0].key.dtype)
    start_of = (zero, slots.token, slots.count, slots.done | ~going, recent, made)
    _, token, count, done, recent, made = jax.lax.while_loop(go_on, step, start_of)
    # Rows that ended write, too, and nobody reads it: a slot is refilled from column 0, and the
    # page of a row that has none is nobody's.
    stored = append_columns(slots.own, used, recent, pages)
    slots = slots._replace(own=stored, token=token, count=count, done=done)
    return _placed(slots, spec.mesh), made


def move(slots: Slots, rows: Int[Array, " b"], places: Int[Array, " q"], spec: DecodeSpec) -> Slots:
    """These rows only, and these pages; the rows again where each has one page."""
    own = jax.tree.map(lambda array: array[places], slots.own)
    rest = jax.tree.map(lambda array: array[rows], slots._replace(own=()))
    return _placed(rest._replace(own=own), spec.mesh)


def cache_dtype(mesh: Mesh, dtype: jnp.dtype) -> jnp.dtype:
    """Of keys and values where weights have type `dtype`.

    float32 on a CPU, whose XLA writes into a bfloat16 array by way of a float32 copy of all of it.
    """
    return jnp.dtype("float32") if platform_of(mesh) == "cpu" else dtype


def _activations(spec: DecodeSpec) -> str | None:
    """A CPU has no bfloat16 arithmetic but that of products."""
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
    """For the devices of a mesh; the slots that go in are donated."""
    jit = partial(jax.jit, static_argnames="spec", compiler_options=compiler_options(mesh))
    return Programs(
        jax.jit(empty_slots, static_argnames=("spec", "rows", "pages", "columns", "dtype")),
        jit(prefill_prefix),
        jit(prefill),
        jit(admit, donate_argnames="slots"),
        jit(decode_block, donate_argnames="slots"),
        jit(move),
    )
