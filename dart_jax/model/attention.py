"""Grouped-query attention and its masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Segment id of a shared prefix, whose tokens every segment of the row may attend to.
SHARED = -1
# Far below any score, and far enough from the float32 limit that adding a score stays finite.
MASKED = -1e30

# (query [B,T,N,H], key [B,K,S,H], value [B,K,S,H]) -> [B,T,N,H]
Attention = Callable[[Array, Array, Array], Array]


def segment_mask(
    positions: Int[Array, "B T"], segment_ids: Int[Array, "B T"]
) -> Bool[Array, "B T T"]:
    """True where query t may attend to key s: in the same segment or the shared one, and not later.

    segment_ids -1 1 1 2 2 0        query 4 (segment 2) sees  x . . x x .
    positions    0 1 2 1 2 0        query 2 (segment 1) sees  x x x . . .
    """
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    shared = segment_ids[:, None, :] == SHARED
    causal = positions[:, :, None] >= positions[:, None, :]
    return (same | shared) & causal & (segment_ids[:, :, None] != 0)


def dense_attention(mask: Bool[Array, "B T S"]) -> Attention:
    """Attention under any mask; all T x S scores are computed."""
    return partial(attend, bias=attention_bias(mask))


def attention_bias(mask: Bool[Array, "B T S"]) -> Float[Array, "B 1 1 T S"]:
    """Bias to add to the scores: 0 where a query may attend, far below any score elsewhere."""
    return jnp.where(mask, 0.0, MASKED)[:, None, None, :, :]


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K S H"],
    value: Float[Array, "B K S H"],
    bias: Float[Array, "B 1 1 T S"],
) -> Float[Array, "B T N H"]:
    """Softmax attention; each of the K key-value heads serves its group of G = N/K query heads.

    The softmax is in float32. A query that may attend nowhere (padding) gets finite numbers, which
    are never read. The query heads of a group are laid out along time, so that both products are
    plain batched matrix products and no [.., T, S] array is ever transposed in memory.
    """
    B, T, N, H = query.shape
    K = key.shape[1]
    G = N // K
    grouped = query.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    scores = jnp.einsum("bkth,bksh->bkts", grouped, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, K, G, T, -1) * (H**-0.5) + bias
    probabilities = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = jnp.einsum("bkts,bksh->bkth", probabilities.reshape(B, K, G * T, -1), value)
    return out.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)
