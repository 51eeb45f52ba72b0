"""What a loss of single tokens is made of, with gradients: cross-entropy, and KL from a reference.

`loss.cross_entropy_sum` has the gradient ready when the forward pass ends, which takes a weight of
each token that is known by then. Here a token's loss may be any function of its cross-entropy and
its KL divergence: the backward pass makes the logits of each chunk again and scales their
gradients by what the function's derivative turns out to be. Nothing V-wide is kept.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from dart_jax.model.sharding import constrain
from dart_jax.sft.loss import chunk_logits, join_chunks, split_chunks


class TokenTerms(NamedTuple):
    """Of each position, in nats; float32.

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
    that with a reference; one product with the vocabulary more than `loss.cross_entropy_sum`.

    Args:
        reference: Hidden states of the reference model, which shares the head.
        mesh: As in `loss.cross_entropy_sum`.
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


def _forward(
    chunk: int,
    mesh: Mesh | None,
    hidden: Array,
    reference: Array | None,
    kernel: Array,
    targets: Array,
) -> tuple[TokenTerms, tuple]:
    kept = (hidden, reference, kernel, targets)
    return _token_terms(chunk, mesh, *kept), kept


def _backward(chunk: int, mesh: Mesh | None, kept: tuple, cotangents: TokenTerms) -> tuple:
    hidden, reference, kernel, targets = kept

    def body(_: None, piece: tuple) -> tuple[None, Array]:
        h, r, t, of_each, of_kl = _on_rows(piece, mesh)
        _, log_p = _log_probabilities(h, kernel, t, mesh)
        p = jnp.exp(log_p)
        is_target = jnp.arange(p.shape[-1])[None, None, :] == t[..., None]
        grad = of_each[..., None] * (p - is_target)
        if r is not None:
            grad += of_kl[..., None] * (p - jnp.exp(_log_probabilities(r, kernel, t, mesh)[1]))
        grad = jnp.einsum(
            "bcv,dv->bcd", grad.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32
        )
        return None, constrain(grad.astype(hidden.dtype), mesh, "batch", None, None)

    pieces = _pieces(chunk, hidden, reference, targets, cotangents.cross_entropy, cotangents.kl)
    _, grads = jax.lax.scan(body, None, pieces)
    return join_chunks(grads, hidden.shape[1]), None, None, None


_token_terms.defvjp(_forward, _backward)


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
