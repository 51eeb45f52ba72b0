"""Low-rank adapters (LoRA), kept in a pytree that is separate from the base weights.

`lora_params[target] = {"A": [L, in, R], "B": [L, R, out]}`, float32, for each target projection.
The adapted projection of an input x is `x W + scale * dropout(x) A B`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, PyTree, UInt8
from qwix import QArray

from dart_jax.model.architecture import LlamaConfig, projection_shapes
from dart_jax.model.config import LoraConfig
from dart_jax.model.dense import trained_matmul

LoraParams = dict[str, dict[str, Array]]

# Checkpoint name of dropout's noise, which a rematerialisation policy of `llama` keeps.
KEPT = "kept"


def init_lora(key: Array, config: LlamaConfig, lora: LoraConfig) -> LoraParams:
    """Draw A Kaiming-uniform (a = sqrt 5, bound 1/sqrt(in), as PEFT does), and set B to 0."""
    shapes = projection_shapes(config)
    params: LoraParams = {}

    for index, target in enumerate(lora.targets):
        fan_in, fan_out = shapes[target]
        bound = 1 / math.sqrt(fan_in)
        a = jax.random.uniform(
            jax.random.fold_in(key, index),
            (config.num_layers, fan_in, lora.rank),
            minval=-bound,
            maxval=bound,
        )
        params[target] = {"A": a, "B": jnp.zeros((config.num_layers, lora.rank, fan_out))}
    return params


def lora_axes(lora_params: PyTree) -> PyTree:
    """Logical axes of each adapter weight, for the sharding table."""
    return {
        target: {"A": ("layers", "adapter", "rank"), "B": ("layers", "rank", "adapter")}
        for target in lora_params
    }


def dropout(x: Float[Array, "..."], rate: float, key: Array | None) -> Float[Array, "..."]:
    """Inverted dropout; the identity without a key or at rate 0.

    Four features share a word of 32 random bits, a byte each: with one word per feature, threefry
    takes a tenth of a training step on a CPU. A byte resolves the rate to 1/256; the remainder is
    drawn once for all features of a token, and decides for those whose byte equals the threshold.
    So every feature is dropped with probability `rate`.
    """
    if key is None or rate == 0.0:
        return x

    threshold, rest = divmod(rate * 256, 1.0)
    # With a key of its own: the bytes are drawn from `key` itself.
    extra = jax.random.bernoulli(jax.random.fold_in(key, 0), rest, (*x.shape[:-1], 1))
    drawn = _bytes(key, x.shape) >= int(threshold) + extra.astype(jnp.uint32)
    # A truth value takes a byte: kept for the backward pass, half as much as the activation itself.
    bits = checkpoint_name(_as_bits(drawn), KEPT)
    keep = _from_bits(bits, x.shape[-2])
    return jnp.where(keep, x * (1 / (1 - rate)), 0).astype(x.dtype)


_PLACES = np.arange(8, dtype=np.uint8)[:, None, None]


def _as_bits(values: Bool[Array, "*B T F"]) -> UInt8[Array, "*B W F"]:
    """Put eight rows into one of bytes; rows, since features may be split over devices."""
    *lead, rows, features = values.shape
    padding = [(0, 0)] * len(lead) + [(0, -rows % 8), (0, 0)]
    blocks = jnp.pad(values, padding).reshape(*lead, 8, -1, features)
    return jnp.sum(blocks.astype(jnp.uint8) << _PLACES, axis=-3, dtype=jnp.uint8)


def _from_bits(bits: UInt8[Array, "*B W F"], rows: int) -> Bool[Array, "*B T F"]:
    """Take the first rows out of their bytes again."""
    blocks = (bits[..., None, :, :] >> _PLACES) & 1
    return blocks.reshape(*bits.shape[:-2], -1, bits.shape[-1])[..., :rows, :] == 1


def _bytes(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw uniform integers in [0, 256), as uint32."""
    *rows, features = shape
    words = jax.random.bits(key, (*rows, -(-features // 4)), jnp.uint32)
    shifts = jnp.arange(0, 32, 8, dtype=jnp.uint32)[:, None]
    split = (words[..., None, :] >> shifts) & 0xFF
    return split.reshape(*rows, -1)[..., :features]


def adapter_deltas(
    x: Float[Array, "B T in"],
    adapters: dict[str, dict[str, Array]],
    scale: Array | float,
    dtype: Any,
) -> dict[str, Float[Array, "B T out"]]:
    """Compute (scale * x A) B for each of a layer's adapters {"A": [in, R], "B": [R, out]}.

    The As are joined to one matrix, so that x is read once: products with R columns are bound by
    memory.

    Args:
        scale: One number, or [B, 1, R]: a scale for each row and rank (see `mix_adapters`).
        dtype: Type of the products' operands.
    """
    if not adapters:
        return {}
    joined = jnp.concatenate([weights["A"] for weights in adapters.values()], axis=1)
    inner = jnp.split(trained_matmul(x, joined, dtype), len(adapters), axis=-1)
    scale = jnp.asarray(scale, x.dtype)
    return {
        # Scaled before B, since each rank may have a scale of its own.
        name: trained_matmul(scale * hidden, weights["B"], dtype)
        for hidden, (name, weights) in zip(inner, adapters.items(), strict=True)
    }


def mix_adapters(
    adapters: Sequence[tuple[LoraParams, float]], config: LlamaConfig
) -> tuple[LoraParams, np.ndarray]:
    """Join several adapters into one with all their ranks, and give each one's scale of every rank.

        A = [A1 A2], B = [B1; B2]        x A B = x A1 B1 + x A2 B2
        scales = [[s1 s1 0 0 0],         of adapter 1, of rank 2: (scales[0] * x A) B = s1 x A1 B1
                  [0 0 s2 s2 s2]]        of adapter 2, of rank 3

    A batch row of an adapter is given that adapter's scales, one of the base model zeros. The other
    adapters then add exact zeros to it, whatever their weights are. One that is given more than
    once, at several scales, has its ranks once.

    Returns:
        The joint adapter, with a target wherever one of them has it; scales [adapters, ranks].
    """
    shapes, layers = projection_shapes(config), config.num_layers
    # By identity: equal weights in two places are rare, and comparing them would cost more.
    distinct = list({id(lora): lora for lora, _ in adapters}.values())
    ranks = [next(iter(lora.values()))["A"].shape[-1] for lora in distinct]

    def joined(target: str) -> dict[str, Array]:
        fan_in, fan_out = shapes[target]
        parts = [
            # Without this target an adapter has zeros, which keep its ranks at their places.
            lora.get(target)
            or {"A": jnp.zeros((layers, fan_in, rank)), "B": jnp.zeros((layers, rank, fan_out))}
            for lora, rank in zip(distinct, ranks, strict=True)
        ]
        return {
            "A": jnp.concatenate([part["A"] for part in parts], axis=-1),
            "B": jnp.concatenate([part["B"] for part in parts], axis=-2),
        }

    scales = np.zeros((len(adapters), sum(ranks)), np.float32)

    for index, (lora, scale) in enumerate(adapters):
        place = next(i for i, other in enumerate(distinct) if other is lora)
        start = sum(ranks[:place])
        scales[index, start : start + ranks[place]] = scale

    targets = [name for name in shapes if any(name in lora for lora in distinct)]
    return {target: joined(target) for target in targets}, scales


def merge_lora(base_params: PyTree, lora_params: LoraParams, scale: float) -> PyTree:
    """Merge an adapter into the base weights: W + scale * A B, in W's dtype.

    Raises:
        ValueError: The base is quantised; rounding it again would lose the adapter.
    """
    layers = dict(base_params["layers"])
    for target, weights in lora_params.items():
        kernel = layers[target]
        if isinstance(kernel, QArray):
            raise ValueError(
                f"layers.{target} is quantised, and an adapter cannot be merged into it; merge "
                "into the checkpoint itself, loaded with model.quantize none"
            )
        # Added in float32, so that only the sum is rounded to the kernel's type.
        delta = jnp.einsum("lir,lro->lio", weights["A"], weights["B"]) * scale
        layers[target] = (kernel.astype(jnp.float32) + delta).astype(kernel.dtype)
    return {**base_params, "layers": layers}
