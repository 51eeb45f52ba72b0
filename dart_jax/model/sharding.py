"""The device mesh, and the one table that maps logical axes of arrays to its axes."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from dart_jax.model.config import MeshConfig

MESH_AXES = ("data", "fsdp", "tensor")

RULES: dict[str, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "embed": "fsdp",
    "norm": None,
    "rank": None,
    "layers": None,
}


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices; -1 in the configuration becomes what the others leave.

    Raises:
        ValueError: The axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"mesh: {config}; sizes are positive, and at most one of them is -1")
    fixed = math.prod(size for size in sizes if size != -1)
    sizes = [len(devices) // fixed if size == -1 else size for size in sizes]
    if math.prod(sizes) != len(devices):
        raise ValueError(
            f"mesh: {config} does not divide {len(devices)} devices; "
            "set mesh.data, mesh.fsdp and mesh.tensor so that their product is that number"
        )
    return Mesh(np.asarray(devices).reshape(sizes), MESH_AXES)


def sharding_of(mesh: Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of one array.

    A dimension that its mesh axes do not divide stays whole on every device: 9 heads on a
    4-way tensor axis are replicated, not an error.
    """
    spec = []
    for axis, size in zip(axes, shape, strict=True):
        target = RULES[axis] if axis is not None else None
        names = (target,) if isinstance(target, str) else (target or ())
        ways = math.prod(mesh.shape[name] for name in names)
        spec.append(target if ways > 1 and size % ways == 0 else None)
    return NamedSharding(mesh, PartitionSpec(*spec))


def tree_shardings(mesh: Mesh, axes: PyTree, arrays: PyTree) -> PyTree:
    """`sharding_of` for every leaf of `arrays`; `axes` has tuples of axis names in its place."""
    return jax.tree.map(
        lambda names, leaf: sharding_of(mesh, names, leaf.shape),
        axes,
        arrays,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())
