"""Severity-weighted next-token cross-entropy for a frozen head.

The sum over tokens of weight x cross-entropy and its normaliser are returned apart, so that
micro-batches and devices add up before the one division:

    loss = sum_i w_i CE_i / sum_i w_i        (weighted_tokens: weight k is the same as k copies)
    loss = sum_i w_i CE_i / #{i : w_i > 0}   (tokens)
    loss = sum_e w_e mean_{i in e} CE_i / #examples   (examples)
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dart_jax.sft.batch import Batch


def normalised_weights(batch: Batch, normaliser: str) -> tuple[Float[Array, "B T"], Array]:
    """Token weights of the loss sum, and the batch's share of the divisor (a scalar)."""
    weights = batch.loss_weights
    supervised = weights > 0
    if normaliser == "weighted_tokens":
        return weights, weights.sum()
    if normaliser == "tokens":
        return weights, supervised.sum().astype(jnp.float32)
    same = (batch.segment_ids[:, :, None] == batch.segment_ids[:, None, :]).astype(jnp.float32)
    per_token = jnp.einsum("bts,bs->bt", same, supervised.astype(jnp.float32))
    inverse = jnp.where(supervised, 1 / jnp.maximum(per_token, 1), 0.0)
    # Each supervised token holds 1/n of its example, so that the inverses add up to their number.
    return weights * inverse, inverse.sum()


def gather_supervised(
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    supervised: int,
) -> tuple[Float[Array, "B M D"], Int[Array, "B M"], Float[Array, "B M"]]:
    """Each row's positions with a weight, first; M = `supervised` bounds their number.

    Only these meet the vocabulary: prompts and padding would be most of the head's work.
    """
    order = jnp.argsort(weights == 0, axis=1, stable=True)[:, :supervised]
    take = partial(jnp.take_along_axis, axis=1)
    return take(hidden, order[..., None]), take(targets, order), take(weights, order)


def cross_entropy_sum(
    hidden: Float[Array, "B M D"],
    kernel: Float[Array, "D V"],
    targets: Int[Array, "B M"],
    weights: Float[Array, "B M"],
    chunk: int,
) -> Float[Array, ""]:
    """sum weight x cross-entropy, `chunk` positions of a row at a time; memory B x chunk x V.

    Differentiable in `hidden` only: the head is frozen. The gradient is made in the forward
    pass, while the chunk's probabilities are at hand: one product with the vocabulary less than
    recomputing the logits backward, and nothing V-wide is kept.
    """
    return _cross_entropy_sum(chunk, hidden, kernel, targets, weights)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy_sum(
    chunk: int, hidden: Array, kernel: Array, targets: Array, weights: Array
) -> Array:
    return _scan_chunks(chunk, hidden, kernel, targets, weights, with_grad=False)[0]


def _forward(
    chunk: int, hidden: Array, kernel: Array, targets: Array, weights: Array
) -> tuple[Array, Array]:
    return _scan_chunks(chunk, hidden, kernel, targets, weights, with_grad=True)


def _backward(chunk: int, grad_hidden: Array, cotangent: Array) -> tuple:
    return (grad_hidden * cotangent.astype(grad_hidden.dtype), None, None, None)


_cross_entropy_sum.defvjp(_forward, _backward)


def _scan_chunks(
    chunk: int, hidden: Array, kernel: Array, targets: Array, weights: Array, with_grad: bool
) -> tuple[Array, Array]:
    M = hidden.shape[1]
    pad = -M % chunk
    pieces = (
        jnp.pad(hidden, ((0, 0), (0, pad), (0, 0))),
        jnp.pad(targets, ((0, 0), (0, pad))),
        jnp.pad(weights, ((0, 0), (0, pad))),
    )

    def split(x: Array) -> Array:
        return x.reshape(x.shape[0], -1, chunk, *x.shape[2:]).swapaxes(0, 1)

    def body(total: Array, piece: tuple[Array, Array, Array]) -> tuple[Array, Array | None]:
        h, t, w = piece
        logits = jnp.einsum("bcd,dv->bcv", h, kernel, preferred_element_type=jnp.float32)
        shift = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        at_target = jnp.take_along_axis(logits, t[..., None], axis=-1)
        total = total + jnp.sum(w[..., None] * (shift - at_target))
        if not with_grad:
            return total, None
        is_target = jnp.arange(logits.shape[-1])[None, None, :] == t[..., None]
        grad_logits = w[..., None] * (jnp.exp(logits - shift) - is_target)
        grad = jnp.einsum("bcv,dv->bcd", grad_logits.astype(kernel.dtype), kernel)
        return total, grad.astype(hidden.dtype)

    total, grads = jax.lax.scan(body, jnp.zeros((), jnp.float32), tuple(map(split, pieces)))
    if grads is None:
        return total, total
    return total, grads.swapaxes(0, 1).reshape(hidden.shape[0], M + pad, -1)[:, :M]
