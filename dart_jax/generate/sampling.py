"""Sample the next token with noise that only (seed, question, index, token) determine.

Gumbel-max: argmax over the nucleus of logit / temperature + noise(token). Two models that see the
same noise pick the same token wherever their distributions agree, which makes their answers
comparable in pairs; and no row's noise depends on the other rows of its batch.
"""

import hashlib
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# The nucleus is searched among so many of the largest logits first. At temperature 0.2 it nearly
# always fits, and sorting 49,152 logits a row would cost more than the rest of the decode step on a
# CPU.
CANDIDATES = 64
# `top_tokens` compares the maxima of groups of so many tokens before it looks into a group.
_GROUP = 64


def question_hash(question_id: str) -> int:
    """Hash a question id to 31 bits of SHA-256, the same on every machine and Python version."""
    return int.from_bytes(hashlib.sha256(question_id.encode()).digest()[:4], "big") >> 1


def row_keys(seed: int, question_ids: list[str]) -> Array:
    """Derive one noise key per row from the seed and the row's question id; [B]."""
    hashes = jnp.asarray([question_hash(id) for id in question_ids], jnp.uint32)
    return jax.vmap(lambda h: jax.random.fold_in(jax.random.key(seed), h))(hashes)


def token_noise(key: Array, index: Array, tokens: Int[Array, " C"]) -> Float[Array, " C"]:
    """Draw the Gumbel noise of some token ids for the index-th new token of one row."""
    step_key = jax.random.fold_in(key, index)
    draw = jax.vmap(lambda token: jax.random.gumbel(jax.random.fold_in(step_key, token)))
    return draw(tokens)


def nucleus(probabilities: Float[Array, "B C"], top_p: float) -> Array:
    """Mask [B, C] of the nucleus, for probabilities sorted in falling order.

    A token is in it when the tokens before it hold less than top_p; the first one always is.
    """
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return before < top_p


def greedy(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """The most likely token of each row; of equal ones the first.

    Two plain reductions take a thirtieth of jnp.argmax's time on a CPU. There the vocabulary is cut
    into parts that are compared element by element, since XLA does not vectorise a reduction of the
    last axis.
    """
    return jax.lax.platform_dependent(
        logits, cpu=partial(_first_largest, parts=16), default=partial(_first_largest, parts=1)
    )


def _first_largest(logits: Float[Array, "B V"], parts: int) -> Int[Array, " B"]:
    V = logits.shape[-1]
    parts = parts if V % parts == 0 else 1
    tokens = jnp.split(jnp.arange(V, dtype=jnp.int32), parts)
    split = jnp.split(logits, parts, axis=-1)
    best = reduce(jnp.maximum, split).max(axis=-1, keepdims=True)
    # Tokens that are not the largest get the last id, which loses the minimum to any smaller one.
    first = [jnp.where(p == best, t, V - 1) for p, t in zip(split, tokens, strict=True)]
    return reduce(jnp.minimum, first).min(axis=-1)


def top_tokens(
    logits: Float[Array, "B V"], count: int
) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The `count` largest logits of each row in falling order, and their tokens.

    They are in the `count` groups of tokens that have the largest maxima. Selecting from those
    groups takes 40 % of the time of a selection from all 49,152 (64 rows, two CPU cores).
    """
    B, V = logits.shape
    if V % _GROUP or count >= V // _GROUP:
        top, tokens = jax.lax.top_k(logits, count)
        return top, tokens

    groups = logits.reshape(B, -1, _GROUP)
    _, chosen = jax.lax.top_k(jnp.max(groups, axis=-1), count)
    # In the order of the vocabulary, so that of equal logits the first token is taken, as in top_k.
    chosen = jnp.sort(chosen, axis=-1)

    candidates = jnp.take_along_axis(groups, chosen[..., None], axis=1).reshape(B, -1)
    top, places = jax.lax.top_k(candidates, count)
    tokens = (chosen[..., None] * _GROUP + jnp.arange(_GROUP)).reshape(B, -1)
    return top, jnp.take_along_axis(tokens, places, axis=-1)


def sample(
    logits: Float[Array, "B V"],
    keys: Array,
    index: Int[Array, " B"],
    *,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
) -> Int[Array, " B"]:
    """Sample the next token of each row.

    As in `transformers`, the nucleus is that of the distribution which temperature and top_k leave.

    Args:
        keys: From `row_keys`, [B].
        index: How many tokens were decoded before this one, in each row.
        temperature: 0 takes the most likely token.
        top_k: 0 for all tokens.
    """
    if temperature == 0.0:
        return greedy(logits)
    V = logits.shape[-1]
    scaled = logits.astype(jnp.float32) / temperature

    def choose(top: Array, tokens: Array, normaliser: Array) -> Array:
        keep = nucleus(jnp.exp(top - normaliser), top_p)
        noise = jax.vmap(token_noise)(keys, index, tokens)
        best = jnp.argmax(jnp.where(keep, top + noise, -jnp.inf), axis=-1)
        return jnp.take_along_axis(tokens, best[:, None], axis=-1)[:, 0].astype(jnp.int32)

    def total(values: Array) -> Array:
        return jax.nn.logsumexp(values, axis=-1, keepdims=True)

    if 0 < top_k < V:
        top, tokens = top_tokens(scaled, top_k)
        return choose(top, tokens, total(top))

    normaliser = total(scaled)
    top, tokens = top_tokens(scaled, min(CANDIDATES, V))
    # Where the nucleus of some row is larger than the candidates, all logits are sorted instead.
    fits = jnp.all(jnp.exp(top - normaliser).sum(axis=-1) >= top_p)
    # If one row needs the second branch, all take it: noise belongs to tokens, not to places, and
    # the others choose the same there.
    return jax.lax.cond(
        # A small vocabulary is all there, whatever rounding leaves of its sum.
        fits | (V <= CANDIDATES),
        lambda: choose(top, tokens, normaliser),
        lambda: choose(*jax.lax.top_k(scaled, V), normaliser),
    )
