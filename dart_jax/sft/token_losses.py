"""Losses of single tokens other than the cross-entropy, as `sft.loss` and `repair.loss` name them.

A token's loss depends on what its example is for (`SOURCES`); p is the trained adapter's
probability of the token, q the starting adapter's, which stays as it is:

    distill, repair        fn: cross_entropy  -log p
                               focal          (1 - p)^gamma (-log p)        (Lin et al. 2017)
                               your own       a function of `Tokens`
    distill, kl_weight > 0     kl_weight KL(q || p) over the vocabulary, in place of fn: in the
                               repair stage these are the replayed targets
    drifted                    unlikelihood_weight (-log(1 - p))            (Welleck et al. 2020)
    penalised, preferred       toxicity_weight (+1, -1) p/q, clipped        (Schulman et al. 2017)
    repair with drifted        a loss of the pair                           (`sft.preference`)

The step multiplies each token's loss by its weight, adds up and divides by the normaliser that
`sft.loss_normalization` names, which counts the supervised tokens of every source alike.

Joint toxicity regularisation adds toxicity_weight E_p[H(r)] to the distill loss, H the harm score
of a rationale r. H has no gradient: it is a black box that reads text. What it has is

    d E_p[H(r)] = E_p[(H(r) - b) d log p(r)]                        (score function; Williams 1992)

for any b that does not depend on r. The rationales are drawn once from M0, which is q here: the
adapter starts as M0. So E_p becomes E_q with each token's p/q, and the loss of a rationale's token
is (H(r) - b) p/q, b the mean score. Its gradient is the one above while p = q, at the first step;
later p/q leaves the other tokens' ratios out, as PPO does, and is clipped as there to
[1 - CLIP, 1 + CLIP] where going further would lower the loss: what was drawn from M0 says nothing
about a model that is no longer near it. |H(r) - b| is the example's weight, its sign the source.
The rationales are drawn as `decode` says, so that E_q is M0's own distribution at temperature 1
and top-p 1 only, and a sharpened one below. The conclusion line, which H does not read, is not
trained on here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dart_jax.own_code import code_file, code_hash, import_function, place
from dart_jax.sft.config import LossConfig
from dart_jax.sft.examples import SOURCES

CLIP = 0.2
# Cross-entropy below which 1 - p is lost in float32's rounding of the logits.
CERTAIN = 1e-5


class Tokens(NamedTuple):
    """The arrays that a loss of tokens may use; B rows of M positions that carry a loss.

    Attributes:
        cross_entropy: -log p(token), nats; the one that carries gradients, with `kl`.
        reference_cross_entropy: -log q(token) under the starting adapter, without gradient; None
            unless `loss.reference`, or a part of the loss, asks for it.
        kl: KL(q || p) over the vocabulary, nats; None likewise.
        weights: Loss weight of each token, as the examples carry it. Where it is 0, the position
            is padding, and the loss returned for it does not count.
        sources: Index in `SOURCES` of what the example is for.
        severities: Severity of the drift that the example repairs, 1 to 4; 0 for none.
        segment_ids: Which example of its row a token belongs to, from 1.
    """

    cross_entropy: Float[Array, "B M"]
    reference_cross_entropy: Float[Array, "B M"] | None
    kl: Float[Array, "B M"] | None
    weights: Float[Array, "B M"]
    sources: Int[Array, "B M"]
    severities: Int[Array, "B M"]
    segment_ids: Int[Array, "B M"]


class TokenLoss(NamedTuple):
    """The loss that the settings name: they themselves, and the function that `loss.fn` is."""

    config: LossConfig
    fn: Callable[[Tokens], Array]

    @property
    def needs_reference(self) -> bool:
        """Tell whether the step runs the starting adapter, too."""
        config = self.config
        parts = config.kl_weight > 0 or config.toxicity_weight > 0
        return config.reference or parts or config.preference == "dpo"

    def __call__(self, tokens: Tokens) -> dict[str, Float[Array, "B M"]]:
        """Loss of each token by the part that makes it: `fn`, `unlikelihood`, `kl`, `toxicity`.

        Every token belongs to one part; it is 0 in the others.
        """
        config, parts = self.config, {}
        unclaimed = jnp.ones_like(tokens.sources, bool)

        def add(name: str, weight: float, sources: tuple[str, ...], values: Array) -> None:
            nonlocal unclaimed
            claimed = is_from(tokens, *sources)
            parts[name] = jnp.where(claimed, weight * values, 0.0)
            unclaimed &= ~claimed

        if config.unlikelihood_weight > 0:
            values = unlikelihood(tokens.cross_entropy)
            add("unlikelihood", config.unlikelihood_weight, ("drifted",), values)
        if config.kl_weight > 0:
            add("kl", config.kl_weight, ("distill",), tokens.kl)
        if config.toxicity_weight > 0:
            add("toxicity", config.toxicity_weight, ("penalised", "preferred"), ratio_loss(tokens))
        return {config.fn: jnp.where(unclaimed, self.fn(tokens), 0.0), **parts}


def is_from(tokens: Tokens, *sources: str) -> Array:
    """Tell whether each token's example is for one of these, bool [B, M]."""
    return jnp.isin(tokens.sources, jnp.array([SOURCES.index(name) for name in sources]))


def focal(cross_entropy: Float[Array, "*n"], gamma: float) -> Float[Array, "*n"]:
    """Compute (1 - p)^gamma x cross-entropy: nearly certain tokens count less (Lin et al. 2017)."""
    # For a gamma below 1 the derivative at certainty would be infinite.
    missing = -jnp.expm1(-jnp.maximum(cross_entropy, CERTAIN))
    return missing**gamma * cross_entropy


def unlikelihood(cross_entropy: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Compute -log(1 - p) of p = exp(-cross_entropy) (Welleck et al. 2020); finite for p = 1.

    Below `CERTAIN` nats it goes on as its tangent: float32 does not tell such p from 1, and the
    gradient in the logits, which is p (1 for p = 1), keeps its direction there.
    """
    safe = jnp.maximum(cross_entropy, CERTAIN)
    edge = jnp.float32(CERTAIN)
    slope = -1 / jnp.expm1(edge)
    return -jnp.log(-jnp.expm1(-safe)) + slope * (jnp.minimum(cross_entropy, edge) - edge)


def ratio_loss(tokens: Tokens) -> Float[Array, "B M"]:
    """Compute +p/q (penalised) or -p/q (preferred), clipped where going on would lower it."""
    sign = is_from(tokens, "penalised") * 1.0 - is_from(tokens, "preferred")
    log_ratio = tokens.reference_cross_entropy - tokens.cross_entropy
    # Of tokens of other sources p/q may be infinite, and 0 x infinity is no number.
    ratio = jnp.exp(jnp.where(sign == 0, 0.0, log_ratio))
    return jnp.maximum(sign * ratio, sign * jnp.clip(ratio, 1 - CLIP, 1 + CLIP))


def token_loss(config: LossConfig, key: str = "loss") -> TokenLoss | None:
    """Find the loss that these settings name; None for the plain weighted cross-entropy.

    Args:
        key: Where the settings stand, for messages: `sft.loss`, `repair.loss`.

    Raises:
        ValueError: `fn` is unknown, cannot be imported, or does not return floats [B, M].
    """
    if config.is_plain:
        return None
    if config.fn == "cross_entropy":
        return TokenLoss(config, _cross_entropy)
    if config.fn == "focal":
        return TokenLoss(config, _Focal(config.focal_gamma))
    custom_loss = TokenLoss(config, import_function(config.fn, f"{key}.fn", "cross_entropy, focal"))
    _check_shape(custom_loss, f"{key}.fn")
    return custom_loss


def loss_identity(config: LossConfig) -> dict[str, Any]:
    """Identify a loss: by its settings, and by the text of the file that a custom one is in."""
    loss = token_loss(config)
    is_custom = loss is not None and "." in config.fn
    return {**config.identity(), "code": code_hash(loss.fn) if is_custom else None}


def uses_weights(loss: TokenLoss) -> bool:
    """Tell whether a loss depends on how much the tokens weigh, beyond whether they weigh at all.

    The step multiplies each token's loss by its weight anyway. Tried on tokens of every source and
    severity, once with each of two weights that a severity may have.
    """
    sources, severities = jnp.indices((len(SOURCES), 5))
    each = 0.3 + 0.1 * sources + 0.05 * severities
    reference = each[:, ::-1] if loss.needs_reference else None
    kl = 0.1 * each if loss.needs_reference else None

    def values(weights: Array) -> Array:
        segments = jnp.ones_like(sources)
        return loss.fn(Tokens(each, reference, kl, weights, sources, severities, segments))

    weights = 1.0 + (sources + severities) % 4
    # Reversed along both axes, so that weights change places within rows and between them.
    others = weights[::-1, ::-1] + 1.0
    return not bool(jnp.array_equal(values(weights), values(others), equal_nan=True))


def _cross_entropy(tokens: Tokens) -> Array:
    return tokens.cross_entropy


class _Focal(NamedTuple):
    gamma: float

    def __call__(self, tokens: Tokens) -> Array:
        return focal(tokens.cross_entropy, self.gamma)


def _check_shape(loss: TokenLoss, key: str) -> None:
    """Trace the function on two rows of three tokens; raises ValueError for what it must not do."""
    floats = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    ints = jax.ShapeDtypeStruct((2, 3), jnp.int32)
    reference = floats if loss.needs_reference else None
    tokens = Tokens(floats, reference, reference, floats, ints, ints, ints)

    try:
        values = jax.eval_shape(loss.fn, tokens)
    except Exception as error:  # a function of the user's own may raise anything
        hint = "" if loss.needs_reference else "; what is None needs loss.reference: true"
        raise ValueError(
            f"{key}: {loss.config.fn} fails on tokens [2, 3]{place(error, code_file(loss.fn))}: "
            f"{type(error).__name__}: {error}{hint}"
        ) from error

    shape, dtype = getattr(values, "shape", None), getattr(values, "dtype", None)
    if shape != (2, 3) or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{key}: {loss.config.fn} returned {values} for tokens [2, 3]; it must return one "
            "float for each token, an array of the shape of tokens.cross_entropy"
        )
