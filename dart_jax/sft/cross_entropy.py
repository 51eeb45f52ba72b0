"""Severity-weighted next-token cross-entropy for a frozen head.

The sum over tokens of weight x cross-entropy and its normaliser are returned apart, so that
micro-batches and devices add up before the one division. `sft.loss_normalization` names the
normaliser:

    weighted_token_mean   sum_i w_i CE_i / sum_i w_i      weight k is the same as k copies
    token_mean            sum_i w_i CE_i / #{i : w_i > 0}
    example_mean          sum_e w_e mean_{i in e} CE_i / #examples

`cross_entropy_sum` is the plain loss: each token's weight is known before the forward pass, so the
gradient is ready when that pass ends. `token_terms` is for `token_losses`, where a token's loss may
be any function of its cross-entropy and of its KL divergence from a reference: the backward pass
makes the logits of each chunk again and scales their gradients by the derivative of that function.
Neither keeps anything that is as wide as the vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped

from dart_jax.model.sharding import constrain
from dart_jax.sft.batch import AnyBatch


class SegmentSums(NamedTuple):
    """Sums over each example of each row, for the log.

    Attributes:
        loss: Sum of the unweighted cross-entropy over its supervised tokens, nats.
        weight: Sum of its loss weights.
        tokens: Its supervised tokens.
    """

    loss: Float[Array, "B S"]
    weight: Float[Array, "B S"]
    tokens: Float[Array, "B S"]


def segment_sums(
    segment_ids: Int[Array, "B M"], values: Float[Array, "B M"], segments: int
) -> Float[Array, "B S"]:
    """Sum of each segment's values; S = `segments`, of which the first has id 1."""
    # Padding (0) and a shared prefix (-1) belong to none.
    is_of = segment_ids[:, None, :] == jnp.arange(1, segments + 1)[None, :, None]
    return jnp.sum(jnp.where(is_of, values[:, None, :], 0.0), axis=2)


def of_tokens(
    of_segments: Shaped[Array, "B S"], segment_ids: Int[Array, "B M"]
) -> Shaped[Array, "B M"]:
    """Look up each token's value among those of the segments.

    Padding and a shared prefix, which belong to none, get the first segment's.
    """
    return jnp.take_along_axis(of_segments, jnp.maximum(segment_ids - 1, 0), axis=1)


def normalised_weights(
    batch: AnyBatch, loss_normalization: str, segments: int
) -> tuple[Float[Array, "B T"], Array]:
    """Token weights of the loss sum, and the batch's share of the divisor (a scalar)."""
    weights = batch.loss_weights
    supervised = weights > 0
    if loss_normalization == "weighted_token_mean":
        return weights, weights.sum()
    if loss_normalization == "token_mean":
        return weights, supervised.sum().astype(jnp.float32)

    # example_mean: the shares add up to the number of examples.
    shares = example_shares(batch.segment_ids, supervised, segments)
    return weights * shares, shares.sum()


def example_shares(
    segment_ids: Int[Array, "B T"], supervised: Bool[Array, "B T"], segments: int
) -> Float[Array, "B T"]:
    """Give each supervised token 1/n of its example, n the example's supervised tokens."""
    per_segment = segment_sums(segment_ids, supervised.astype(jnp.float32), segments)
    per_token = of_tokens(per_segment, segment_ids)
    return jnp.where(supervised, 1 / jnp.maximum(per_token, 1), 0.0)


def gather_supervised(
    weights: Float[Array, "B T"], supervised: int, *arrays: Shaped[Array, "B T ..."]
) -> tuple[Array, ...]:
    """Each row's positions with a weight, first, out of each array: [B, M, ...].

    M = `supervised` bounds their number. Only these meet the vocabulary: prompts and padding
    would be most of the head's work.
    """
    # Sorted instead of selected by a mask: a compiled program needs to know the result's shape.
    order = jnp.argsort(weights == 0, axis=1, stable=True)[:, :supervised]
    index = [order.reshape(*order.shape, *(1,) * (array.ndim - 2)) for array in arrays]
    return tuple(map(partial(jnp.take_along_axis, axis=1), arrays, index))


def cross_entropy_sum(
    hidden: Float[Array, "B M D"],
    kernel: Float[Array, "D V"],
    targets: Int[Array, "B M"],
    weights: Float[Array, "B M"],
    chunk: int,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, ""], Float[Array, "B M"]]:
    """Sum weight x cross-entropy, `chunk` positions of a row at a time; memory B x chunk x V.

    The sum is differentiable in `hidden` only: the head is frozen. Its gradient is made in the
    forward pass, while the chunk's probabilities are at hand: one product with the vocabulary
    less than recomputing the logits backward, and nothing V-wide is kept.

    Args:
        mesh: Its fsdp and tensor axes split the vocabulary, and every device of them takes the
            chunks of all their rows: a few megabytes of hidden states are moved, never the head.

    Returns:
        The sum, and each position's cross-entropy, which carries no gradient.
    """
    # A tied head is split as the embedding is; it is rearranged once, not for every chunk.
    kernel = constrain(kernel, mesh, "residual", "vocab")
    return _cross_entropy_sum(chunk, mesh, hidden, kernel, targets, weights)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cross_entropy_sum(
    chunk: int, mesh: Mesh | None, hidden: Array, kernel: Array, targets: Array, weights: Array
) -> tuple[Array, Array]:
    return _scan_chunks(chunk, mesh, hidden, kernel, targets, weights, with_grad=False)[0]


def _sum_forward(
    chunk: int, mesh: Mesh | None, hidden: Array, kernel: Array, targets: Array, weights: Array
) -> tuple[tuple[Array, Array], Array | None]:
    return _scan_chunks(chunk, mesh, hidden, kernel, targets, weights, with_grad=True)


def _sum_backward(
    chunk: int, mesh: Mesh | None, grad_hidden: Array, cotangents: tuple[Array, Array]
) -> tuple:
    # Only the sum has a gradient; the cross-entropy of each position is for the log.
    return (grad_hidden * cotangents[0].astype(grad_hidden.dtype), None, None, None)


_cross_entropy_sum.defvjp(_sum_forward, _sum_backward)


def _scan_chunks(
    chunk: int,
    mesh: Mesh | None,
    hidden: Array,
    kernel: Array,
    targets: Array,
    weights: Array,
    with_grad: bool,
) -> tuple[tuple[Array, Array], Array | None]:
    """((sum, cross-entropy of each position), gradient of the sum in hidden)."""
    M = hidden.shape[1]

    def body(total: Array, piece: tuple[Array, Array, Array]) -> tuple[Array, tuple]:
        h, t, w = (constrain(x, mesh, "rows", *(None,) * (x.ndim - 1)) for x in piece)
        logits = chunk_logits(h, kernel, mesh)
        shift = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        each = (shift - jnp.take_along_axis(logits, t[..., None], axis=-1))[..., 0]
        total = total + jnp.sum(w * each)
        # Where the loss is only measured, as on held-out examples, the second product is spared.
        if not with_grad:
            return total, (each, None)

        # d(-log p(target)) / d logits = p - one_hot(target)
        is_target = jnp.arange(logits.shape[-1])[None, None, :] == t[..., None]
        # In the kernel's type: a product of mixed types is slow (see `model.dense`).
        grad_logits = (w[..., None] * (jnp.exp(logits - shift) - is_target)).astype(kernel.dtype)
        grad = jnp.einsum("bcv,dv->bcd", grad_logits, kernel, preferred_element_type=jnp.float32)
        return total, (each, constrain(grad.astype(hidden.dtype), mesh, "batch", None, None))

    pieces = tuple(split_chunks(x, chunk) for x in (hidden, targets, weights))
    total, (each, grads) = jax.lax.scan(body, jnp.zeros((), jnp.float32), pieces)
    return (total, join_chunks(each, M)), None if grads is None else join_chunks(grads, M)


class TokenTerms(NamedTuple):
    """The parts of a loss of tokens: one value of each position, in nats; float32.

    Attributes:
        cross_entropy: -log p(target).
        reference_cross_entropy: The same of the reference, without gradient; None without one.
        kl: sum_v q(v) (log q(v) - log p(v)) over the vocabulary, q the reference; None without one.
    """

    cross_entropy: Float[Array, "B M"]
    reference_cross_entropy: Float[Array, "B M"] | None
    kl: Float[Array, "B M"] | None


def token_terms(
    hidden: Float[Array, "B M D"],
    reference: Float[Array, "B M D"] | None,
    kernel: Float[Array, "D V"],
    targets: Int[Array, "B M"],
    chunk: int,
    mesh: Mesh | None = None,
) -> TokenTerms:
    """Cross-entropy and KL of each position, `chunk` positions of a row at a time.

    Differentiable in `hidden` only: head and reference are frozen. Memory B x chunk x V, twice
    that with a reference; one product with the vocabulary more than `cross_entropy_sum`.

    Args:
        reference: Hidden states of the reference model, which shares the head.
        mesh: As in `cross_entropy_sum`.
    """
    kernel = constrain(kernel, mesh, "residual", "vocab")
    reference = None if reference is None else jax.lax.stop_gradient(reference)
    return _token_terms(chunk, mesh, hidden, reference, kernel, targets)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _token_terms(
    chunk: int,
    mesh: Mesh | None,
    hidden: Array,
    reference: Array | None,
    kernel: Array,
    targets: Array,
) -> TokenTerms:
    def body(_: None, piece: tuple) -> tuple[None, TokenTerms]:
        h, r, t = _on_rows(piece, mesh)
        each, log_p = _log_probabilities(h, kernel, t, mesh)
        if r is None:
            return None, TokenTerms(each, None, None)
        reference_each, log_q = _log_probabilities(r, kernel, t, mesh)
        kl = jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)
        return None, TokenTerms(each, reference_each, kl)

    _, terms = jax.lax.scan(body, None, _pieces(chunk, hidden, reference, targets))
    return jax.tree.map(lambda x: join_chunks(x, hidden.shape[1]), terms)


def _terms_forward(
    chunk: int,
    mesh: Mesh | None,
    hidden: Array,
    reference: Array | None,
    kernel: Array,
    targets: Array,
) -> tuple[TokenTerms, tuple]:
    residuals = (hidden, reference, kernel, targets)
    return _token_terms(chunk, mesh, *residuals), residuals


def _terms_backward(
    chunk: int, mesh: Mesh | None, residuals: tuple, cotangents: TokenTerms
) -> tuple:
    hidden, reference, kernel, targets = residuals

    def body(_: None, piece: tuple) -> tuple[None, Array]:
        h, r, t, of_each, of_kl = _on_rows(piece, mesh)
        _, log_p = _log_probabilities(h, kernel, t, mesh)
        p = jnp.exp(log_p)
        is_target = jnp.arange(p.shape[-1])[None, None, :] == t[..., None]
        # d(-log p(target)) / d logits = p - one_hot(target); d KL(q || p) / d logits = p - q
        grad = of_each[..., None] * (p - is_target)
        if r is not None:
            grad += of_kl[..., None] * (p - jnp.exp(_log_probabilities(r, kernel, t, mesh)[1]))
        grad = jnp.einsum(
            "bcv,dv->bcd", grad.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32
        )
        return None, constrain(grad.astype(hidden.dtype), mesh, "batch", None, None)

    # The reference's cross-entropy is a constant, so that its cotangent is dropped.
    pieces = _pieces(chunk, hidden, reference, targets, cotangents.cross_entropy, cotangents.kl)
    _, grads = jax.lax.scan(body, None, pieces)
    return join_chunks(grads, hidden.shape[1]), None, None, None


_token_terms.defvjp(_terms_forward, _terms_backward)


def _pieces(chunk: int, *arrays: Array | None) -> tuple:
    return tuple(None if x is None else split_chunks(x, chunk) for x in arrays)


def _on_rows(piece: tuple, mesh: Mesh | None) -> tuple:
    return jax.tree.map(lambda x: constrain(x, mesh, "rows", *(None,) * (x.ndim - 1)), piece)


def _log_probabilities(
    hidden: Array, kernel: Array, targets: Array, mesh: Mesh | None
) -> tuple[Float[Array, "B C"], Float[Array, "B C V"]]:
    """-log p(target), and log p of the whole vocabulary."""
    logits = chunk_logits(hidden, kernel, mesh)
    shift = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)
    return (shift - target)[..., 0], logits - shift


def split_chunks(x: Shaped[Array, "B M ..."], chunk: int) -> Shaped[Array, "N B C ..."]:
    """Pieces of C = `chunk` positions, the last one padded with zeros."""
    # The padding adds nothing to a sum, since its weight is 0, too; `join_chunks` cuts it off.
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % chunk), *((0, 0),) * (x.ndim - 2)))
    return x.reshape(x.shape[0], -1, chunk, *x.shape[2:]).swapaxes(0, 1)


def join_chunks(x: Shaped[Array, "N B C ..."], positions: int) -> Shaped[Array, "B M ..."]:
    """Put the pieces together again; the first M = `positions` of a row."""
    x = x.swapaxes(0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :positions]


def chunk_logits(
    hidden: Float[Array, "B C D"], kernel: Float[Array, "D V"], mesh: Mesh | None
) -> Float[Array, "B C V"]:
    """Float32 logits of a chunk, split over the vocabulary."""
    logits = jnp.einsum(
        "bcd,dv->bcv", hidden.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32
    )
    return constrain(logits, mesh, "rows", None, "vocab")
