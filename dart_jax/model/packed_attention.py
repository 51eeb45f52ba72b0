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

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from dart_jax.model.attention import MASKED, Attention, dense_attention, segment_mask

# Checkpoint name of the residuals from which attention's backward pass starts.
ATTENDED = "attended"


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


class _Slots(NamedTuple):
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


def packed_attention(
    positions: Int[Array, "B T"], segment_ids: Int[Array, "B T"], layout: Layout
) -> Attention:
    """Make the attention function of packed rows: by slots, or dense where that is less work."""
    T = positions.shape[1]
    by_slots = layout.segments * layout.slot * (layout.prefix + layout.slot)
    if by_slots >= T * T:
        return dense_attention(segment_mask(positions, segment_ids))
    slots = _find_slots(segment_ids, layout)

    def attention(query: Array, key: Array, value: Array) -> Array:
        return _attend_by_slots(query, key, value, slots, layout)

    return attention


def _find_slots(segment_ids: Array, layout: Layout) -> _Slots:
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
    return _Slots(
        source.reshape(flat),
        (offset < length[:, :, None]).reshape(flat),
        jnp.clip(home, 0, layout.segments * layout.slot - 1),
        segment_ids > 0,
    )


@jax.custom_vjp
def _move(x: Array, there: Array, valid: Array, back: Array, back_valid: Array) -> Array:
    """Gather rows of x [B, n, F] from the indices `there`, 0 where not `valid`.

    The backward pass gathers from the indices `back`. That of a plain gather would be a scatter,
    which runs on one core of a CPU.
    """
    taken = jnp.take_along_axis(x, there[:, :, None], axis=1)
    return jnp.where(valid[:, :, None], taken, 0)


def _move_forward(x: Array, *indices: Array) -> tuple[Array, tuple[Array, ...]]:
    return _move(x, *indices), indices


def _move_backward(indices: tuple[Array, ...], grad: Array) -> tuple:
    # Between valid places the two maps are each other's inverse.
    there, valid, back, back_valid = indices
    return _move(grad, back, back_valid, there, valid), None, None, None, None


_move.defvjp(_move_forward, _move_backward)


def _attend_by_slots(
    query: Array, key: Array, value: Array, slots: _Slots, layout: Layout
) -> Float[Array, "B T N H"]:
    """Gather queries, keys and values into slots, attend there, and gather the results back."""
    B, T, N, H = query.shape
    K, P, S, L = key.shape[1], layout.prefix, layout.segments, layout.slot
    G = N // K
    there = (slots.source, slots.filled, slots.home, slots.housed)
    back = (slots.home, slots.housed, slots.source, slots.filled)

    def to_slots(x: Array) -> Array:  # [B,T,heads,H] -> [B,S,L,heads,H]
        return _move(x.reshape(B, T, -1), *there).reshape(B, S, L, -1, H)

    def with_prefix(x: Array) -> Array:  # [B,K,T,H] -> [B,S,K,P+L,H]
        in_slots = to_slots(x.swapaxes(1, 2)).swapaxes(2, 3)
        shared = jnp.broadcast_to(x[:, None, :, :P], (B, S, K, P, H))
        return jnp.concatenate([shared, in_slots], axis=3)

    q = to_slots(query).reshape(B, S, L, K, G, H).transpose(0, 1, 3, 4, 2, 5)
    out = causal_attention(q, with_prefix(key), with_prefix(value))
    out = out.transpose(0, 1, 4, 2, 3, 5).reshape(B, S * L, N * H)
    rows = _move(out, *back).reshape(B, T, N, H)
    if not P:
        return rows

    # The prefix is in no slot: its queries attend to the prefix alone.
    causal = jnp.broadcast_to(jnp.tril(jnp.ones((P, P), bool)), (B, P, P))
    head = dense_attention(causal)(query[:, :P], key[:, :, :P], value[:, :, :P])
    return jnp.concatenate([head, rows[:, P:]], axis=1)


@jax.custom_vjp
def causal_attention(
    query: Float[Array, "B S K G L H"],
    key: Float[Array, "B S K U H"],
    value: Float[Array, "B S K U H"],
) -> Float[Array, "B S K G L H"]:
    """Attend from each slot's L queries to U = P + L keys: the prefix, then the slot, causally.

    The backward pass keeps the result and the logarithm of the softmax's divisor, and computes the
    probabilities from them by one exponential (Dao et al. 2022); the derivative that jax makes
    keeps or recomputes every array of the softmax.
    """
    return _attention_forward(query, key, value)[0]


def _attention_scores(query: Array, key: Array) -> Array:
    """Compute scaled and masked scores [B,S,K,G*L,U]; the mask depends on the shapes only."""
    B, S, K, G, L, H = query.shape
    U = key.shape[3]
    scores = jnp.einsum(
        "bskmh,bskuh->bskmu",
        query.reshape(B, S, K, G * L, H),
        key,
        preferred_element_type=jnp.float32,
    )
    # U - L = P: every query sees all of the prefix.
    seen = jnp.tile(jnp.tril(jnp.ones((L, U), bool), U - L), (G, 1))
    return jnp.where(seen[None, None, None], scores * H**-0.5, MASKED)


def _attention_forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple]:
    B, S, K, G, L, H = query.shape
    scores = _attention_scores(query, key)
    top = jnp.max(scores, axis=-1, keepdims=True)
    exponents = jnp.exp(scores - top)
    total = jnp.sum(exponents, axis=-1, keepdims=True)

    out = jnp.einsum(
        "bskmu,bskuh->bskmh",
        exponents.astype(value.dtype),
        value,
        preferred_element_type=jnp.float32,
    )
    out = (out / total).astype(value.dtype).reshape(B, S, K, G, L, H)
    out = checkpoint_name(out, ATTENDED)
    log_total = checkpoint_name(top + jnp.log(total), ATTENDED)
    return out, (query, key, value, out, log_total)


def _attention_backward(residuals: tuple, grad: Array) -> tuple[Array, Array, Array]:
    query, key, value, out, log_total = residuals
    B, S, K, G, L, H = query.shape
    sums = {"preferred_element_type": jnp.float32}
    flat = (B, S, K, G * L, H)

    probabilities = jnp.exp(_attention_scores(query, key) - log_total)
    # The softmax's derivative subtracts sum_u p_u dp_u, which is the product of result and
    # gradient (Dao et al. 2022).
    inner = jnp.sum(grad.astype(jnp.float32) * out.astype(jnp.float32), -1).reshape(*flat[:-1], 1)
    grad, query = grad.reshape(flat), query.reshape(flat)

    low = probabilities.astype(value.dtype)
    grad_value = jnp.einsum("bskmu,bskmh->bskuh", low, grad, **sums)
    grad_low = jnp.einsum("bskmh,bskuh->bskmu", grad, value, **sums)
    grad_scores = (probabilities * (grad_low - inner) * H**-0.5).astype(value.dtype)
    grad_query = jnp.einsum("bskmu,bskuh->bskmh", grad_scores, key, **sums)
    grad_key = jnp.einsum("bskmu,bskmh->bskuh", grad_scores, query, **sums)
    return (
        grad_query.astype(query.dtype).reshape(B, S, K, G, L, H),
        grad_key.astype(key.dtype),
        grad_value.astype(value.dtype),
    )


causal_attention.defvjp(_attention_forward, _attention_backward)
