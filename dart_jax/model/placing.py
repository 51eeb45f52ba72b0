"""Move a checkpoint's tensors from their file to the devices, never whole on the host.

    file     [out, in]  --slices of this process's devices-->  staged [out, in] on the devices
    staged   --transposed, cast, transformed, on the devices-->  one layer's weight [in, out]
    weight   --written in place into its donated stack-->  leaf [L, in, out]

The stack is sharded over the devices from the first layer on. The host holds one slice at a time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

# (leaf name such as "q", "attn_norm" or "embed"; one layer's weight [in, out] on the devices, as
# `forward` takes it) -> what is stored instead. The result is the weight itself or a pytree of
# arrays with the weight's axes in its order, shorter where a block of numbers shares one: codes
# [in, out] and scales [in / block, out], for example. jit traces the function, and shards its
# arrays like the weight where the mesh divides them: a quantised model never exists in `dtype`.
Transform = Callable[[str, Array], PyTree]


@dataclass(frozen=True)
class Leaf:
    """How tensors of the file become one leaf of the tree; compiled programs are cached by it.

    Attributes:
        name: Key in `forward`'s tree; None without a transform, so that leaves of one shape share a
            program.
        num_layers: Length of the stack; None for a weight that is not stacked.
        transpose: Whether the file has [out, in].
        dtype: Type to which the weight is cast before the transform.
        sharding: Sharding of one weight [in, out], with an entry for each axis.
        transform: Applied to each weight; None stores it as it is.
    """

    name: str | None
    num_layers: int | None
    transpose: bool
    dtype: Any
    sharding: NamedSharding
    transform: Transform | None

    @property
    def stored_sharding(self) -> NamedSharding:
        """Sharding of one weight in the file's orientation."""
        spec = self.sharding.spec
        return self.sharding.update(spec=PartitionSpec(*spec[::-1]) if self.transpose else spec)

    def value(self, staged: Array) -> PyTree:
        """Transpose, cast and transform a tensor of the file (traced)."""
        weight = (staged.T if self.transpose else staged).astype(self.dtype)
        return weight if self.transform is None else self.transform(self.name, weight)

    def parts(self, stored: jax.ShapeDtypeStruct) -> PyTree:
        """Shapes and types of the leaf's arrays, with the stack's axis in front."""
        layers = () if self.num_layers is None else (self.num_layers,)
        return jax.tree.map(
            lambda part: jax.ShapeDtypeStruct((*layers, *part.shape), part.dtype),
            jax.eval_shape(self.value, stored),
        )

    def shardings(self, parts: PyTree) -> PyTree:
        """Shard each of `parts` as the weight, on those axes that the mesh divides."""
        mesh, spec = self.sharding.mesh, self.sharding.spec
        spec = spec if self.num_layers is None else (None, *spec)

        def sharding(part: jax.ShapeDtypeStruct) -> NamedSharding:
            fitting = [
                axis if size % _ways(mesh, axis) == 0 else None
                for axis, size in zip(spec, part.shape, strict=True)
            ]
            return NamedSharding(mesh, PartitionSpec(*fitting))

        return jax.tree.map(sharding, parts)


def _ways(mesh: Mesh, axis: str | tuple[str, ...] | None) -> int:
    names = (axis,) if isinstance(axis, str) else (axis or ())
    return math.prod(mesh.shape[name] for name in names)


def arrive(
    tensor: Any, shape: tuple[int, ...], leaf: Leaf, layer: int | None, stack: PyTree | None
) -> PyTree:
    """Read one tensor to the devices and put it into its leaf.

    Args:
        tensor: From `TensorSource.open`: indexed with a slice per axis, it reads them.
        shape: Shape of the tensor in the file.
        layer: Index in the stack; None for a weight that is not stacked.
        stack: The leaf with the tensors that have come so far, which is donated; None before the
            first.

    Returns:
        The leaf with this tensor in it, after all transfers have ended.
    """
    staged = _stage(tensor, shape, leaf.stored_sharding)
    stored = jax.ShapeDtypeStruct(staged.shape, staged.dtype)

    if layer is not None:
        stack = _zeros(leaf, stored)() if stack is None else stack
        placed = layer_writer(leaf, stored)(stack, staged, np.int32(layer))
    elif leaf.transform is None and not leaf.transpose and staged.dtype == leaf.dtype:
        placed = staged  # It is stored as it is needed; a program would make a copy.
    else:
        placed = _converter(leaf, stored)(staged)
    # Otherwise the slices of several tensors would be on the host at once.
    return jax.block_until_ready(placed)


def _stage(tensor: Any, shape: tuple[int, ...], sharding: NamedSharding) -> jax.Array:
    """Make a global array, of which this process reads its own devices' slices, each one once."""
    holders = defaultdict(list)
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        bounds = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        holders[bounds].append(device)

    shards = []
    for bounds, devices in holders.items():
        part = tensor[tuple(slice(*ends) for ends in bounds)]
        # Waiting here frees this slice before the next one is read.
        shards += jax.block_until_ready([jax.device_put(part, device) for device in devices])
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


@cache
def layer_writer(leaf: Leaf, stored: jax.ShapeDtypeStruct) -> Callable[..., PyTree]:
    """Jit (stack, staged, layer) -> stack, which writes into the memory of the donated stack."""

    def write(stack: PyTree, staged: Array, layer: Array) -> PyTree:
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_index_in_dim(whole, part, layer, 0),
            stack,
            leaf.value(staged),
        )

    shardings = leaf.shardings(leaf.parts(stored))
    return jax.jit(write, donate_argnums=0, out_shardings=shardings)


@cache
def _zeros(leaf: Leaf, stored: jax.ShapeDtypeStruct) -> Callable[[], PyTree]:
    parts = leaf.parts(stored)

    def zeros() -> PyTree:
        return jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), parts)

    return jax.jit(zeros, out_shardings=leaf.shardings(parts))


@cache
def _converter(leaf: Leaf, stored: jax.ShapeDtypeStruct) -> Callable[[Array], PyTree]:
    return jax.jit(leaf.value, out_shardings=leaf.shardings(leaf.parts(stored)))
