"""Choose whether decoding gets each layer's weights as an array of its own, or stacked.

A GPU's products cannot begin inside a stack in all their forms: for cuBLAS, and for Triton's
products that split a long sum, XLA copies a layer's weights out of it, for every token. Apart, they
are read where they lie, at the price of a second copy of the layers.
"""

from __future__ import annotations

import math

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

# The most of a GPU's free memory that the second copy may take: the rest is for a cache.
_SHARE = 1 / 3


def free_memory(mesh: Mesh) -> int | None:
    """Bytes that are free on one of the mesh's devices; None where the device does not say."""
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats["bytes_in_use"]


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
