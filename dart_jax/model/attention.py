"""Grouped-query attention and its masks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def segment_mask(
    positions: Int[Array, "B T"], segment_ids: Int[Array, "B T"]
) -> Bool[Array, "B T T"]:
    """True where query t may attend to key s: same segment, not later, not padding.

    segment_ids  1 1 1 2 2 0        query 4 (segment 2) sees  . . . x x .
    positions    0 1 2 0 1 0        query 1 (segment 1) sees  x x . . . .
    """
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    causal = positions[:, :, None] >= positions[:, None, :]
    return same & causal & (segment_ids[:, None, :] > 0)


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K S H"],
    value: Float[Array, "B K S H"],
    mask: Bool[Array, "B T S"],
) -> Float[Array, "B T N H"]:
    """Softmax attention; each of the K key-value heads serves N/K query heads.

    The softmax is in float32. A query whose mask is empty (padding) returns finite numbers that
    nothing reads.
    """
    B, T, N, H = query.shape
    K = key.shape[1]
    grouped = query.reshape(B, T, K, N // K, H)
    scores = jnp.einsum("btkgh,bksh->bkgts", grouped, key, preferred_element_type=jnp.float32) * (
        H**-0.5
    )
    scores = jnp.where(mask[:, None, None, :, :], scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = jnp.einsum("bkgts,bksh->btkgh", probabilities, value)
    return out.reshape(B, T, N, H)
