"""The key-value cache of a decode batch: one pair of buffers a layer.

Not one array over all layers: a decode step would then copy each layer's slice out of it, which
on a CPU takes as long as the attention itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dart_jax.model.architecture import LlamaConfig


class LayerCache(NamedTuple):
    """Keys and values of one layer; slot s of a row holds one of its past tokens."""

    key: Float[Array, "B K S H"]
    value: Float[Array, "B K S H"]


KVCache = tuple[LayerCache, ...]


def empty_cache(config: LlamaConfig, batch: int, slots: int, dtype: jnp.dtype) -> KVCache:
    """A cache of zeros for `batch` rows of `slots` tokens."""
    shape = (batch, config.num_kv_heads, slots, config.head_dim)
    return tuple(
        LayerCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        for _ in range(config.num_layers)
    )


def write_slots(
    cache: LayerCache,
    slot: Array | int,
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
) -> LayerCache:
    """Write T tokens from `slot` on; in place when the cache is donated."""

    def write(stored: Array, new: Array) -> Array:
        new = new.swapaxes(1, 2).astype(stored.dtype)
        return jax.lax.dynamic_update_slice(stored, new, (0, 0, slot, 0))

    return LayerCache(write(cache.key, key), write(cache.value, value))
