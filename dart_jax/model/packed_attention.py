"""Attention of packed rows, in which examples stand side by side after a shared prefix.

    row           p p p a a b b b .      prefix p, examples a and b, padding
    segment_ids  -1-1-1 1 1 2 2 2 0
    positions     0 1 2 3 4 3 4 5 0

Most of the T x T scores of such a row are masked. Here each example's queries are gathered into a
slot, and attend to the prefix and to their slot only:

    slots         a a .    x  p p p | a a .
                  b b b    x  p p p | b b b
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from dart_jax.model.attention import MASKED, Attention, segment_mask
from dart_jax.model.dense import columns_product, transposed

# Checkpoint name of the residuals from which attention's backward pass starts.
ATTENDED = "attended"
# Queries are taken in so many blocks at most, of so many tokens at least; see `causal_attention`.
_MOST_BLOCKS, _LEAST_BLOCK = 4, 64


class Layout(NamedTuple):
    """Sizes of a packed batch that are fixed when a step is compiled.

    Attributes:
        prefix: Tokens at the start of each row that all its examples share; 0 for none.
        slot: Length of the longest example in tokens, without the prefix.
        segments: Largest number of examples in a row.
        supervised: Largest number of positions in a row that carry a loss.
    """

    prefix: int
    slot: int
    segments: int
    supervised: int


class RowSlots(NamedTuple):
    """Index maps between a row's T tokens and its E = segments x slot places in slots.

    Attributes:
        source: Index in the row of the token in each place.
        filled: True for places that hold a token.
        home: Place of each token of the row.
        housed: True for tokens that have a place: not the prefix's, and no padding.
    """

    source: Int[Array, "B E"]
    filled: Bool[Array, "B E"]
    home: Int[Array, "B T"]
    housed: Bool[Array, "B T"]

    @property
    def there(self) -> tuple[Array, ...]:
        """Give the arguments by which `move_rows` moves tokens into the slots."""
        return self.source, self.filled, self.home, self.housed

    @property
    def back(self) -> tuple[Array, ...]:
        """Give those by which it moves results back into the row."""
        return self.home, self.housed, self.source, self.filled


def packed_attention(
    positions: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    layout: Layout,
    dtype: Any = jnp.float32,
) -> Attention:
    """Make the attention function of packed rows: by slots, or dense where that is less work.

    Args:
        dtype: Type of the products' operands. Sums, softmax and result are as wide as the inputs.
    """
    T = positions.shape[1]
    attend = partial(causal_attention, dtype=jnp.dtype(dtype).name)
    by_slots = layout.segments * layout.slot * (layout.prefix + layout.slot)
    if by_slots >= T * T:
        return partial(_attend_rows, attend, segment_mask(positions, segment_ids))
    return partial(_attend_by_slots, attend, find_slots(segment_ids, layout), layout)


def _attend_rows(
    attend: Callable[..., Array],
    seen: Bool[Array, "#B T S"],
    query: Array,
    key: Array,
    value: Array,
) -> Float[Array, "B T N H"]:
    """Attend to the row, under a mask that lets no query see what stands behind it."""
    B, T, N, H = query.shape
    K = key.shape[1]
    # [B,1,K,G,T,H]: the row is its only slot.
    grouped = query.reshape(B, 1, T, K, N // K, H).transpose(0, 1, 3, 4, 2, 5)
    out = attend(grouped, key[:, None], value[:, None], seen[:, None])
    return out.transpose(0, 1, 4, 2, 3, 5).reshape(B, T, N, H)


def find_slots(segment_ids: Int[Array, "B T"], layout: Layout) -> RowSlots:
    """Map each place in the slots to a token of the row, and each token to its place."""
    T = segment_ids.shape[1]
    is_of = segment_ids[:, None, :] == jnp.arange(1, layout.segments + 1)[None, :, None]
    # Of a segment that the row lacks, argmax gives 0; none of its places is filled.
    start, length = jnp.argmax(is_of, axis=2), jnp.sum(is_of, axis=2)
    offset = jnp.arange(layout.slot)[None, None, :]
    # Places past the row's end are not filled, but their index has to exist.
    source = jnp.minimum(start[:, :, None] + offset, T - 1)

    # Prefix and padding get the index of some place; `housed` says that it is not theirs.
    segment = jnp.maximum(segment_ids - 1, 0)
    begun = jnp.take_along_axis(start, segment, axis=1)
    home = segment * layout.slot + jnp.arange(T)[None, :] - begun

    flat = source.shape[0], -1
    return RowSlots(
        source.reshape(flat),
        (offset < length[:, :, None]).reshape(flat),
        jnp.clip(home, 0, layout.segments * layout.slot - 1),
        segment_ids > 0,
    )


@jax.custom_vjp
def move_rows(
    x: Float[Array, "B n F"],
    there: Int[Array, "B m"],
    valid: Bool[Array, "B m"],
    back: Int[Array, "B n"],
    back_valid: Bool[Array, "B n"],
) -> Float[Array, "B m F"]:
    """Gather rows of x [B, n, F] from the indices `there`, 0 where not `valid`.

    The backward pass gathers from the indices `back`. That of a plain gather would be a scatter,
    which runs on one core of a CPU.
    """
    taken = jnp.take_along_axis(x, there[:, :, None], axis=1)
    return jnp.where(valid[:, :, None], taken, 0)


def _move_forward(x: Array, *indices: Array) -> tuple[Array, tuple[Array, ...]]:
    return move_rows(x, *indices), indices


def _move_backward(indices: tuple[Array, ...], grad: Array) -> tuple:
    # Between valid places the two maps are each other's inverse.
    there, valid, back, back_valid = indices
    return move_rows(grad, back, back_valid, there, valid), None, None, None, None


move_rows.defvjp(_move_forward, _move_backward)


def _attend_by_slots(
    attend: Callable[..., Array],
    slots: RowSlots,
    layout: Layout,
    query: Array,
    key: Array,
    value: Array,
) -> Float[Array, "B T N H"]:
    """Gather queries, keys and values into slots, attend there, and gather the results back."""
    B, T, N, H = query.shape
    K, P, S, L = key.shape[1], layout.prefix, layout.segments, layout.slot
    G = N // K

    def to_slots(x: Array) -> Array:  # [B,T,heads,H] -> [B,S,L,heads,H]
        return move_rows(x.reshape(B, T, -1), *slots.there).reshape(B, S, L, -1, H)

    def with_prefix(x: Array) -> Array:  # [B,K,T,H] -> [B,S,K,P+L,H]
        in_slots = to_slots(x.swapaxes(1, 2)).swapaxes(2, 3)
        shared = jnp.broadcast_to(x[:, None, :, :P], (B, S, K, P, H))
        return jnp.concatenate([shared, in_slots], axis=3)

    q = to_slots(query).reshape(B, S, L, K, G, H).transpose(0, 1, 3, 4, 2, 5)
    out = attend(q, with_prefix(key), with_prefix(value), _causal(L, P + L))
    out = out.transpose(0, 1, 4, 2, 3, 5).reshape(B, S * L, N * H)
    rows = move_rows(out, *slots.back).reshape(B, T, N, H)
    if not P:
        return rows

    # The prefix is in no slot: its queries attend to the prefix alone.
    head = _attend_rows(attend, _causal(P, P)[0], query[:, :P], key[:, :, :P], value[:, :, :P])
    return jnp.concatenate([head, rows[:, P:]], axis=1)


def _causal(queries: int, keys: int) -> Bool[Array, "1 1 L U"]:
    """True where a query may attend: all keys that stand before the queries, then causally."""
    return jnp.tril(jnp.ones((1, 1, queries, keys), bool), keys - queries)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def causal_attention(
    query: Float[Array, "B S K G L H"],
    key: Float[Array, "B S K U H"],
    value: Float[Array, "B S K U H"],
    seen: Bool[Array, "#B #S L U"],
    dtype: str,
) -> Float[Array, "B S K G L H"]:
    """Attend from each slot's L queries, which are the last of its U places, to the keys seen.

    No query may see a key behind its own place. So the queries are taken in blocks, each with the
    keys up to its own end: on a CPU, where every array of scores goes through memory, eight
    examples of 256 tokens take 55 ms a layer, forward and back, and 96 in one block with products
    that XLA makes of float32 (three examples: 9.5 and 18.0; SmolLM2's heads, two cores with
    AVX512_BF16 and other work beside it).

    The backward pass keeps the result and the logarithm of the softmax's divisor, and computes the
    probabilities from them by one exponential (Dao et al. 2022); the derivative that jax makes
    keeps or recomputes every array of the softmax. A query that may attend nowhere (padding) gets
    finite numbers, which are never read.

    Args:
        dtype: Type of the products' operands; a CPU with AMX multiplies bfloat16 four
            times as fast as float32 (measured: 1,300 against 320 GFLOP/s on two cores).
    """
    return _attention_forward(query, key, value, seen, dtype)[0]


def _blocks(queries: int, keys: int) -> list[tuple[slice, slice]]:
    """Cut the queries into blocks; each with the keys up to its end."""
    count = max(1, min(_MOST_BLOCKS, queries // _LEAST_BLOCK))
    starts = range(0, queries, -(-queries // count))
    ends = [*starts[1:], queries]
    return [
        (slice(start, end), slice(keys - queries + end))
        for start, end in zip(starts, ends, strict=True)
    ]


def _product(equation: str, a: Array, b: Array, dtype: str) -> Array:
    """Contract operands of a type with float32 sums, which CPUs, too, have a fast product for.

    The reshape matters there: where XLA may lay out what is cast as it likes, it transposes it
    behind the cast, and makes the product of float32 operands.

    Args:
        equation: Of the axes behind B and S, which stand in it as r.
    """
    B, S = a.shape[:2]
    a, b = (x.astype(dtype).reshape(B * S, *x.shape[2:]) for x in (a, b))
    product = jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)
    return product.reshape(B, S, *product.shape[1:])


def _attention_scores(query: Array, key: Array, seen: Array, dtype: str) -> Array:
    """Compute scaled and masked scores [B,S,K,G*L,U]."""
    B, S, K, G, L, H = query.shape
    scores = _product("rkmh,rkuh->rkmu", query.reshape(B, S, K, G * L, H), key, dtype)
    seen = jnp.tile(seen, (1, 1, G, 1))[:, :, None]
    return jnp.where(seen, scores * H**-0.5, MASKED)


def _attention_forward(
    query: Array, key: Array, value: Array, seen: Array, dtype: str
) -> tuple[Array, tuple]:
    outs, log_totals = [], []
    for rows, keys in _blocks(*seen.shape[-2:]):
        block = query[..., rows, :]
        scores = _attention_scores(block, key[..., keys, :], seen[..., rows, keys], dtype)
        top = jnp.max(scores, axis=-1, keepdims=True)
        exponents = jnp.exp(scores - top)
        total = jnp.sum(exponents, axis=-1, keepdims=True)

        out = _product("rkmu,rkuh->rkmh", exponents, value[..., keys, :], dtype)
        outs.append((out / total).astype(value.dtype).reshape(block.shape))
        log_totals.append((top + jnp.log(total)).reshape(*block.shape[:-1], 1))

    out = checkpoint_name(jnp.concatenate(outs, axis=-2), ATTENDED)
    log_total = checkpoint_name(jnp.concatenate(log_totals, axis=-2), ATTENDED)
    return out, (query, key, value, seen, out, log_total)


def _attention_backward(
    dtype: str, residuals: tuple, grad: Array
) -> tuple[Array, Array, Array, None]:
    query, key, value, seen, out, log_total = residuals
    # The softmax's derivative subtracts sum_u p_u dp_u, which is the product of result and
    # gradient (Dao et al. 2022).
    inner = jnp.sum(grad.astype(jnp.float32) * out.astype(jnp.float32), -1, keepdims=True)
    scale, U = query.shape[-1] ** -0.5, key.shape[-2]

    def flat(x: Array) -> Array:  # [B,S,K,G,l,n] -> [B,S,K,G*l,n]
        return x.reshape(*x.shape[:3], -1, x.shape[-1])

    def widened(turned: Array) -> Array:  # [B,S,K,H,u] -> [B,S,K,H,U]
        return jnp.pad(turned, [(0, 0)] * 4 + [(0, U - turned.shape[-1])])

    grad_queries, grad_keys, grad_values = [], [], []
    for rows, keys in _blocks(*seen.shape[-2:]):
        q, g = query[..., rows, :], flat(grad[..., rows, :])
        k, v = key[..., keys, :], value[..., keys, :]
        scores = _attention_scores(q, k, seen[..., rows, keys], dtype)
        probabilities = jnp.exp(scores - flat(log_total[..., rows, :]))
        grad_low = _product("rkmh,rkuh->rkmu", g, v, dtype)
        grad_scores = (probabilities * (grad_low - flat(inner[..., rows, :])) * scale).astype(dtype)

        grad_queries.append(_product("rkmu,rkuh->rkmh", grad_scores, k, dtype).reshape(q.shape))
        # Of all blocks together before they are transposed, which is a copy then.
        grad_keys.append(widened(columns_product(flat(q), grad_scores, dtype)))
        grad_values.append(widened(columns_product(g, probabilities, dtype)))

    return (
        jnp.concatenate(grad_queries, axis=-2).astype(query.dtype),
        _turned_sum(grad_keys).astype(key.dtype),
        _turned_sum(grad_values).astype(value.dtype),
        None,
    )


def _turned_sum(blocks: list[Float[Array, "B S K H U"]]) -> Float[Array, "B S K U H"]:
    """Add up, and transpose; XLA would take the transposition of a single product into it."""
    return transposed(blocks[0]) if len(blocks) == 1 else sum(blocks).swapaxes(-1, -2)


causal_attention.defvjp(_attention_forward, _attention_backward)
