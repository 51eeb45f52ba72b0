"""Low-rank adapters as a pytree of their own, apart from the base weights.

`lora_params[target] = {"A": [L, in, R], "B": [L, R, out]}`, float32, for each target projection.
The adapted projection of an input x is `x W + scale * dropout(x) A B`.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig

LoraParams = dict[str, dict[str, Array]]


def projection_shapes(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """(in, out) features of each projection that can carry an adapter."""
    D, F = config.embed_dim, config.ffn_dim
    q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        "q": (D, q_dim),
        "k": (D, kv_dim),
        "v": (D, kv_dim),
        "o": (q_dim, D),
        "gate": (D, F),
        "up": (D, F),
        "down": (F, D),
    }


def init_lora(key: Array, config: LlamaConfig, lora: LoraConfig) -> LoraParams:
    """A drawn Kaiming-uniform (a = sqrt 5, bound 1/sqrt(in), as PEFT does), B = 0."""
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
    ends = {
        "q": ("embed", "heads"),
        "k": ("embed", "kv_heads"),
        "v": ("embed", "kv_heads"),
        "o": ("heads", "embed"),
        "gate": ("embed", "ffn"),
        "up": ("embed", "ffn"),
        "down": ("ffn", "embed"),
    }
    return {
        target: {
            "A": ("layers", ends[target][0], "rank"),
            "B": ("layers", "rank", ends[target][1]),
        }
        for target in lora_params
    }


def dropout(x: Float[Array, "..."], rate: float, key: Array | None) -> Float[Array, "..."]:
    """Inverted dropout; the identity without a key or at rate 0.

    Sixteen random bits a feature: half of threefry's work on a CPU, where it costs several
    percent of a step, for a rate that is right to 1/65536.
    """
    if key is None or rate == 0.0:
        return x
    threshold = round(rate * 65536)
    keep = jax.random.bits(key, x.shape, jnp.uint16) >= threshold
    return jnp.where(keep, x / (1 - threshold / 65536), 0).astype(x.dtype)


def lora_delta(
    x: Float[Array, "B T in"], weights: dict[str, Array], scale: Array | float
) -> Float[Array, "B T out"]:
    """scale * x A B for one layer's weights {"A": [in, R], "B": [R, out]}.

    Batch and time are flattened first: the gradients of A and B then contract one dimension.
    Contracting two, XLA's CPU backend transposes every activation in memory before the product,
    which took a third of a training step.
    """
    flat = x.reshape(-1, x.shape[-1])
    hidden = flat @ weights["A"].astype(x.dtype)
    out = (hidden @ weights["B"].astype(x.dtype)) * jnp.asarray(scale, x.dtype)
    return out.reshape(*x.shape[:-1], -1)


def merge_lora(base_params: PyTree, lora_params: LoraParams, scale: float) -> PyTree:
    """Base weights with the adapter folded in: W + scale * A B, in W's dtype."""
    layers = dict(base_params["layers"])
    for target, weights in lora_params.items():
        kernel = layers[target]
        delta = jnp.einsum("lir,lro->lio", weights["A"], weights["B"]) * scale
        layers[target] = (kernel.astype(jnp.float32) + delta).astype(kernel.dtype)
    return {**base_params, "layers": layers}
