"""Attention of packed rows by cuDNN's flash attention, with each example in a slot of its own.

    row           p p p a a b b b .      prefix p, examples a and b, padding
    slots         p p p a a .            lengths 5 and 6; causal
                  p p p b b b

So cuDNN skips the scores of later keys and of padding. Of a mask it would compute all scores, and a
gradient that nobody wants. Each slot computes the prefix's results again; the first one's are kept.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dart_jax.model.attention import Attention, segment_mask
from dart_jax.model.packed_attention import Layout, RowSlots, find_slots, move_rows

# Primitive whose outputs the backward kernel starts from; jax gives them no checkpoint name.
FORWARD_KERNEL = "dot_product_attention_fwd_wrapper"
# Of a slot's length: jax refuses odd ones in training.
_MULTIPLE = 8


def cudnn_attention(
    positions: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    layout: Layout,
    implementation: str = "cudnn",
) -> Attention:
    """Make an attention function that calls cuDNN, by slots or, where these are more work, a mask.

    Args:
        implementation: Of `jax.nn.dot_product_attention`; `xla` runs anywhere (tests).
    """
    attend = partial(jax.nn.dot_product_attention, implementation=implementation)
    T = segment_ids.shape[1]
    # A few long examples among many short ones: slots are as long as the longest. Under a mask all
    # T x T scores are computed, in slots half of theirs.
    length = -(-(layout.prefix + layout.slot) // _MULTIPLE) * _MULTIPLE
    layout = layout._replace(slot=length - layout.prefix)
    by_slots = layout.segments * length**2 // 2
    if by_slots <= T * T:
        return partial(_attend_by_slots, attend, find_slots(segment_ids, layout), layout)

    # The result of a query that may attend nowhere would be nan, so padding attends to everything.
    mask = segment_mask(positions, segment_ids) | (segment_ids == 0)[:, :, None]

    def attend_rows(query: Array, key: Array, value: Array) -> Array:
        return attend(query, key.swapaxes(1, 2), value.swapaxes(1, 2), mask=mask[:, None])

    return attend_rows


def _attend_by_slots(
    attend: partial,
    slots: RowSlots,
    layout: Layout,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K T H"],
    value: Float[Array, "B K T H"],
) -> Float[Array, "B T N H"]:
    """Gather prefix and example into slots, attend there, and gather the results back."""
    B, T, N, H = query.shape
    P, S, L = layout.prefix, layout.segments, layout.slot

    def to_slots(x: Array) -> Array:  # [B,T,heads,H] -> [B*S,P+L,heads,H]
        own = move_rows(x.reshape(B, T, -1), *slots.there).reshape(B, S, L, -1, H)
        shared = jnp.broadcast_to(x[:, None, :P], (B, S, P, *x.shape[2:]))
        return jnp.concatenate([shared, own], axis=2).reshape(B * S, P + L, -1, H)

    # A slot that a row lacks has the prefix, or a place of zeros: the mean of none would be nan.
    lengths = P + slots.filled.reshape(B * S, L).sum(axis=1, dtype=jnp.int32)
    lengths = jnp.maximum(lengths, 1)
    out = attend(
        to_slots(query),
        to_slots(key.swapaxes(1, 2)),
        to_slots(value.swapaxes(1, 2)),
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        is_causal=True,
    ).reshape(B, S, P + L, N * H)

    rows = move_rows(out[:, :, P:].reshape(B, S * L, -1), *slots.back)
    return jnp.concatenate([out[:, 0, :P], rows[:, P:]], axis=1).reshape(B, T, N, H)
