"""The key-value cache of a decode batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dart_jax.model.architecture import LlamaConfig


class KVCache(NamedTuple):
    """Keys and values of every layer; slot s of a row holds one of its past tokens."""

    key: Float[Array, "L B K S H"]
    value: Float[Array, "L B K S H"]


def empty_cache(config: LlamaConfig, batch: int, slots: int, dtype: jnp.dtype) -> KVCache:
    """A cache of zeros for `batch` rows of `slots` tokens."""
    shape = (config.num_layers, batch, config.num_kv_heads, slots, config.head_dim)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def write_layer(
    cache: KVCache,
    layer: Array,
    slot: Array,
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
) -> tuple[KVCache, Float[Array, "B K S H"], Float[Array, "B K S H"]]:
    """Write T tokens from `slot` on into one layer; returns the cache and that layer's slices."""

    def write(stored: Array, new: Array) -> Array:
        new = new.swapaxes(1, 2)[None].astype(stored.dtype)
        return jax.lax.dynamic_update_slice(stored, new, (layer, 0, 0, slot, 0))

    cache = KVCache(write(cache.key, key), write(cache.value, value))
    take = jax.lax.dynamic_index_in_dim
    return cache, take(cache.key, layer, 0, False), take(cache.value, layer, 0, False)
