"""One tensor of a checkpoint from its file to the devices, without ever being whole on the host.

    file     [out, in]  --slices of this process's devices-->  staged [out, in] on the devices
    staged   --transposed, cast, transformed, on the devices-->  one layer's weight [in, out]
    weight   --written in place into its donated stack-->  leaf [L, in, out]

The stack is on the devices from the first layer on, sharded. What the host holds is one slice.
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

# (leaf name such as "q", "attn_norm" or "embed"; its weight [in, out] as `forward` wants it, of
# one layer, on the devices) -> what is stored instead. The result is the weight itself or a
# pytree of arrays with the weight's axes in its order, shorter where a block of numbers shares
# one (codes [in, out] and scales [in / block, out], say). It is traced by jit, and its arrays are
# sharded like the weight where the mesh divides them: a quantised model never exists in `dtype`.
Transform = Callable[[str, Array], PyTree]


@dataclass(frozen=True)
class Leaf:
    """How tensors of the file become one leaf; hashable, since compiled programs are kept by it.

    Attributes:
        name: The key in `forward`'s tree; None where no transform asks for it, so that leaves
            of one shape share a program.
        num_layers: Length of the stack; None for a weight that is a leaf by itself.
        transpose: The file has [out, in].
        dtype: What the weight is cast to before the transform.
        sharding: Of one weight, [in, out], with an entry for each axis.
    """

    name: str | None
    num_layers: int | None
    transpose: bool
    dtype: Any
    sharding: NamedSharding
    transform: Transform | None

    @property
    def stored_sharding(self) -> NamedSharding:
        """The sharding in the file's orientation."""
        spec = self.sharding.spec
        return self.sharding.update(spec=PartitionSpec(*spec[::-1]) if self.transpose else spec)

    def value(self, staged: Array) -> PyTree:
        """Oriented, cast and transformed (traced)."""
        weight = (staged.T if self.transpose else staged).astype(self.dtype)
        return weight if self.transform is None else self.transform(self.name, weight)

    def parts(self, stored: jax.ShapeDtypeStruct) -> PyTree:
        """Shapes and types of the leaf's arrays, stacked."""
        layers = () if self.num_layers is None else (self.num_layers,)
        return jax.tree.map(
            lambda part: jax.ShapeDtypeStruct((*layers, *part.shape), part.dtype),
            jax.eval_shape(self.value, stored),
        )

    def shardings(self, parts: PyTree) -> PyTree:
        """The weight's sharding for each of `parts`, on the axes that the mesh divides."""
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
    """Bring one tensor in.

    Args:
        tensor: What `TensorSource.open` gives: indexed with a slice per axis, it reads them.
        shape: Of the tensor, as in the file.
        layer: Where in the stack it goes; None for a weight that is a leaf by itself.
        stack: The leaf as far as it has come, which is donated; None before its first tensor.

    Returns:
        The leaf with this tensor in it, when it is there: nothing is under way any more.
    """
    staged = _stage(tensor, shape, leaf.stored_sharding)
    stored = jax.ShapeDtypeStruct(staged.shape, staged.dtype)
    if layer is not None:
        stack = _zeros(leaf, stored)() if stack is None else stack
        now = layer_writer(leaf, stored)(stack, staged, np.int32(layer))
    elif leaf.transform is None and not leaf.transpose and staged.dtype == leaf.dtype:
        now = staged  # Stored as it is needed: a program would make a copy.
    else:
        now = _converter(leaf, stored)(staged)
    return jax.block_until_ready(now)


def _stage(tensor: Any, shape: tuple[int, ...], sharding: NamedSharding) -> jax.Array:
    """A global array of which this process reads what its own devices hold, every slice once."""
    holders = defaultdict(list)
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        bounds = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        holders[bounds].append(device)
    shards = []
    for bounds, devices in holders.items():
        part = tensor[tuple(slice(*ends) for ends in bounds)]
        # Waiting lets go of this slice before the next one is read.
        shards += jax.block_until_ready([jax.device_put(part, device) for device in devices])
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


@cache
def layer_writer(leaf: Leaf, stored: jax.ShapeDtypeStruct) -> Callable[..., PyTree]:
    """The compiled (stack, staged, layer) -> stack, in the memory of the donated stack."""

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
