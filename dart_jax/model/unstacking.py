"""Choose whether decoding gets each layer's weights as an array of its own, or stacked.

A GPU's products cannot begin inside a stack in all their forms: for cuBLAS, and for Triton's
products that split a long sum, XLA copies a layer's weights out of it, for every token. Apart, they
are read where they lie, at the price of a second copy of the layers.
"""

from __future__ import annotations

import math

import jax
from jaxtyping import PyTree

# The most of a GPU's free memory that the second copy may take: the rest is for a cache.
_SHARE = 1 / 3


def free_memory() -> int | None:
    """Read how many bytes are free on each of this process's devices, at least.

    None where a device does not say, as a CPU.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if not all("bytes_limit" in each for each in stats):
        return None
    return min(each["bytes_limit"] - each["bytes_in_use"] for each in stats)


def bytes_on_a_device(tree: PyTree) -> int:
    """Count the bytes of one device's parts of arrays, or of shapes with shardings."""
    bits = 0
    for leaf in jax.tree.leaves(tree):
        part = leaf.sharding.shard_shape(leaf.shape)
        bits += math.prod(part) * jax.dtypes.itemsize_bits(leaf.dtype)
    return bits // 8


def unstacks_layers(layers: PyTree, platform: str, free: int | None) -> bool:
    """Decide whether decoding unstacks the layers: always on a CPU, on a GPU if there is room.

    Args:
        layers: Stacked weights, or their shapes, with shardings.
        free: Bytes that are free on a device; None if that is not known.
    """
    if platform != "gpu":
        return platform == "cpu"
    return free is not None and bytes_on_a_device(layers) <= _SHARE * free
