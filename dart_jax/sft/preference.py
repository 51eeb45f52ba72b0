"""Losses of pairs (`repair.loss.preference`): a repair y against the drifted rationale z.

Both answer the same prompt. p is the trained adapter's probability of a token; q is that of the
starting adapter, M_int, which stays as it is and has no dropout:

    dpo    -log sigmoid(beta (r(y) - r(z)))              r sums log p - log q over a text's tokens
                                                         (Rafailov et al. 2023)
    orpo   fn(y) - lambda log sigmoid(o(y) - o(z))       o = log(P / (1 - P)), and log P the mean
                                                         of log p over a text's tokens; fn(y) is
                                                         the mean of `loss.fn` (Hong et al. 2024)

y is the whole target, with its conclusion line and end of turn. z is the analysis alone: its
conclusion may be right, and is not to become less likely. So z stands for every answer that begins
with this analysis.

A step adds up, each with its weight w, the losses of its pairs and the mean token losses of its
other examples: replayed targets (`fn` or `kl`), and repairs without a rationale to reject (`fn`).
`sft.loss_normalization` says what divides the sum: weighted_token_mean the sum of these w, so that
weight k is the same as k copies, and example_mean their number. A pair counts once.

The two texts of a pair share a row (`packing`), so that their sums meet on one device. A loss
is a function of these sums; its derivative reaches the tokens by their cross-entropies, whose
backward pass takes a chunk of the vocabulary at a time (`cross_entropy.token_terms`).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dart_jax.sft.batch import OriginBatch
from dart_jax.sft.config import LossConfig
from dart_jax.sft.cross_entropy import example_shares, of_tokens, segment_sums
from dart_jax.sft.examples import SOURCES
from dart_jax.sft.token_losses import Tokens, is_from, unlikelihood


def pair_weights(
    batch: OriginBatch, loss_normalization: str, segments: int
) -> tuple[Float[Array, "B T"], Array]:
    """Token weights of the loss sum, and the batch's share of the divisor (a scalar).

    Each supervised token holds w/n of its example, n the example's supervised tokens; those of a
    rejected text hold 0, as the loss of its pair stands at the chosen one's.
    """
    is_rejected = of_tokens(batch.sources, batch.segment_ids) == SOURCES.index("drifted")
    shares = example_shares(batch.segment_ids, batch.loss_weights > 0, segments)
    shares = jnp.where(is_rejected, 0.0, shares)
    weights = batch.loss_weights * shares
    by_weight = loss_normalization == "weighted_token_mean"
    return weights, weights.sum() if by_weight else shares.sum()


def with_pairs(
    values: dict[str, Float[Array, "B M"]],
    tokens: Tokens,
    pairs: Int[Array, "B M"],
    config: LossConfig,
    segments: int,
) -> dict[str, Float[Array, "B M"]]:
    """Add the part `dpo` or `orpo`: every token of a pair gets the pair's loss.

    The chosen text keeps its own loss under orpo and loses it under dpo; the rejected one has none.

    Args:
        values: The loss of each token by part, without regard to pairs.
        pairs: Number of each token's pair in its row, from 1; 0 for none.
        segments: Largest number of examples in a row.
    """
    is_paired = pairs > 0
    is_replaced = is_paired if config.preference == "dpo" else is_from(tokens, "drifted")
    parts = {name: jnp.where(is_replaced, 0.0, each) for name, each in values.items()}

    losses = of_tokens(pair_losses(tokens, pairs, config, segments), pairs)
    parts[config.preference] = jnp.where(is_paired, losses, 0.0)
    return parts


def pair_losses(
    tokens: Tokens, pairs: Int[Array, "B M"], config: LossConfig, segments: int
) -> Float[Array, "B S"]:
    """Compute the loss of each pair without its weight; number k stands at index k - 1."""
    # Positions of weight 0 are padding, whatever segment they name.
    paired = jnp.where(tokens.weights > 0, pairs, 0)
    is_rejected = is_from(tokens, "drifted")
    of_chosen = partial(segment_sums, jnp.where(is_rejected, 0, paired), segments=segments)
    of_rejected = partial(segment_sums, jnp.where(is_rejected, paired, 0), segments=segments)

    if config.preference == "dpo":
        log_ratios = tokens.reference_cross_entropy - tokens.cross_entropy
        margins = config.preference_beta * (of_chosen(log_ratios) - of_rejected(log_ratios))
        return -jax.nn.log_sigmoid(margins)

    ones = jnp.ones_like(tokens.cross_entropy)
    chosen, rejected = of_chosen(tokens.cross_entropy), of_rejected(tokens.cross_entropy)
    # Where a row has no such pair, a mean of nothing is 0, and is not read.
    chosen = chosen / jnp.maximum(of_chosen(ones), 1)
    rejected = rejected / jnp.maximum(of_rejected(ones), 1)
    return -config.preference_beta * jax.nn.log_sigmoid(log_odds(chosen) - log_odds(rejected))


def log_odds(cross_entropy: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Compute log(P / (1 - P)) of P = exp(-cross_entropy); finite for P = 1."""
    return unlikelihood(cross_entropy) - cross_entropy
