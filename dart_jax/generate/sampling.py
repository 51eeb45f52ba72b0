"""Choosing the next token with noise that only (seed, question, index, token) determine.

Gumbel-max: argmax over the nucleus of logit / temperature + noise(token). Two models that see the
same noise pick the same token wherever their distributions agree, which is what makes a pair
comparable; and no row's noise depends on who shares its batch.
"""

import hashlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Candidates looked at first. At temperature 0.2 the nucleus nearly always fits, and sorting
# 49,152 logits a row would cost more than the rest of the decode step on a CPU.
CANDIDATES = 64


def question_hash(question_id: str) -> int:
    """31 bits of SHA-256: the same on every machine and Python version."""
    return int.from_bytes(hashlib.sha256(question_id.encode()).digest()[:4], "big") >> 1


def row_keys(seed: int, question_ids: list[str]) -> Array:
    """One key a row; [B]."""
    hashes = jnp.asarray([question_hash(id) for id in question_ids], jnp.uint32)
    return jax.vmap(lambda h: jax.random.fold_in(jax.random.key(seed), h))(hashes)


def token_noise(key: Array, index: Array, tokens: Int[Array, " C"]) -> Float[Array, " C"]:
    """Gumbel noise of given token ids for the index-th new token of one row."""
    step_key = jax.random.fold_in(key, index)
    draw = jax.vmap(lambda token: jax.random.gumbel(jax.random.fold_in(step_key, token)))
    return draw(tokens)


def nucleus(probabilities: Float[Array, "B C"], top_p: float) -> Array:
    """Mask [B, C] of the nucleus, for probabilities sorted in falling order.

    A token is in when the tokens before it hold less than top_p; the first is always in.
    """
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return before < top_p


def sample(
    logits: Float[Array, "B V"], keys: Array, index: Array, *, temperature: float, top_p: float
) -> Int[Array, " B"]:
    """The next token of each row.

    Args:
        keys: From `row_keys`, [B].
        index: How many tokens were decoded before this one.
        temperature: 0 takes the most likely token.
    """
    if temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    scaled = logits.astype(jnp.float32) / temperature
    normaliser = jax.nn.logsumexp(scaled, axis=-1, keepdims=True)

    def choose(count: int) -> Array:
        top, tokens = jax.lax.top_k(scaled, count)
        keep = nucleus(jnp.exp(top - normaliser), top_p)
        noise = jax.vmap(token_noise, in_axes=(0, None, 0))(keys, index, tokens)
        best = jnp.argmax(jnp.where(keep, top + noise, -jnp.inf), axis=-1)
        return jnp.take_along_axis(tokens, best[:, None], axis=-1)[:, 0].astype(jnp.int32)

    V = logits.shape[-1]
    if V <= CANDIDATES:
        return choose(V)
    top, _ = jax.lax.top_k(scaled, CANDIDATES)
    fits = jnp.all(jnp.exp(top - normaliser).sum(axis=-1) >= top_p)
    return jax.lax.cond(fits, lambda: choose(CANDIDATES), lambda: choose(V))
