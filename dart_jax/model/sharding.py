"""The device mesh, and the one table that maps logical axes of arrays to its axes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from dart_jax.model.config import MeshConfig

MESH_AXES = ("data", "fsdp", "tensor")

# Of several mesh axes, the first is the outermost: an adapter that is gathered over fsdp is then
# split over tensor as its projection is.
RULES: dict[str, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "rows": "data",  # of a batch that meets the head, which fsdp splits by vocabulary
    "lookup": None,  # the embedding's rows: any device has its features of all of them
    "features": ("fsdp", "tensor"),
    "residual": None,  # the head's inputs
    "vocab": ("fsdp", "tensor"),
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "embed": "fsdp",
    "adapter": ("tensor", "fsdp"),
    "norm": None,
    "rank": None,
    "layers": None,
}
# Along which weights are stored in parts and used whole.
GATHERED = "fsdp"


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices, with `mesh_sizes`; raises as that does."""
    devices = jax.devices() if devices is None else devices
    sizes = mesh_sizes(config, len(devices))
    # On a TPU, neighbours in the mesh are neighbours in the slice.
    arranged = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(arranged, MESH_AXES)


def mesh_sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
    """Sizes of data, fsdp and tensor; -1 becomes what the others leave, and auto 1.

    Raises:
        ValueError: The axes do not multiply to the number of devices.
    """
    given = [config.data, 1 if config.fsdp == "auto" else config.fsdp, config.tensor]
    fixed = math.prod(size for size in given if size != -1)
    data, fsdp, tensor = [devices // fixed if size == -1 else size for size in given]
    if data * fsdp * tensor != devices:
        raise ValueError(
            f"mesh.data: {config.data}, mesh.fsdp: {config.fsdp}, mesh.tensor: {config.tensor}; "
            f"there are {devices} devices: give numbers whose product that is, -1 for the rest"
        )
    return data, fsdp, tensor


def sharding_of(mesh: Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of one array.

    A dimension that its mesh axes do not divide stays whole on every device: 9 heads on a
    4-way tensor axis are replicated, not an error.
    """
    spec = [_mesh_axes(mesh, axis, size) for axis, size in zip(axes, shape, strict=True)]
    return NamedSharding(mesh, PartitionSpec(*spec))


def _mesh_axes(mesh: Mesh, axis: str | None, size: int) -> str | tuple[str, ...] | None:
    target = RULES[axis] if axis is not None else None
    names = (target,) if isinstance(target, str) else (target or ())
    parts = math.prod(mesh.shape[name] for name in names)
    return target if parts > 1 and size % parts == 0 else None


def data_parallel(mesh: Mesh) -> int:
    """Over how many devices the rows of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in RULES["batch"])


def tree_shardings(mesh: Mesh, axes: PyTree, arrays: PyTree) -> PyTree:
    """`sharding_of` for every leaf of `arrays`; `axes` has tuples of axis names in its place.

    Those of a quantised weight hold for all its arrays.
    """
    return _map_axes(lambda names, leaf: sharding_of(mesh, names, leaf.shape), axes, arrays)


def _map_axes(function: Callable[[tuple, Array], Any], axes: PyTree, arrays: PyTree) -> PyTree:
    """function(axis names, leaf) for every leaf of `arrays`."""

    def of_weight(names: tuple[str | None, ...], weight: PyTree) -> PyTree:
        return jax.tree.map(partial(function, names), weight)

    return jax.tree.map(of_weight, axes, arrays, is_leaf=lambda node: isinstance(node, tuple))


def constrain(x: Array, mesh: Mesh | None, *axes: str | None) -> Array:
    """x, laid out by the table from here on (traced); a mesh of None leaves that to XLA."""
    if mesh is None or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, sharding_of(mesh, axes, x.shape))


def gathers(mesh: Mesh | None) -> bool:
    """Tell whether weights are stored in parts that are gathered for each use."""
    return mesh is not None and mesh.shape[GATHERED] > 1


def gather_weights(weights: PyTree, axes: PyTree, mesh: Mesh | None) -> PyTree:
    """Weights that fsdp splits, whole on every device for the products that follow (traced).

    Left to itself, XLA moves the activations of all devices to each part of a weight instead:
    with Llama-3-8B on eight chips twice the memory and every product's output reduced.

    Args:
        axes: Logical axes of each weight; those of a quantised one hold for all its arrays.
    """
    if not gathers(mesh):
        return weights

    def gather(names: tuple[str | None, ...], leaf: Array) -> Array:
        spec = (_without_gathered(entry) for entry in sharding_of(mesh, names, leaf.shape).spec)
        whole = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.lax.with_sharding_constraint(leaf, whole)

    return _map_axes(gather, axes, weights)


def _without_gathered(entry: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    names = (entry,) if isinstance(entry, str) else (entry or ())
    return tuple(name for name in names if name != GATHERED) or None


def platform_of(mesh: Mesh | None) -> str:
    """Name the mesh's devices: `cpu`, `gpu` or `tpu`; the default backend's without a mesh."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def compiler_options(mesh: Mesh | None) -> dict[str, str] | None:
    """Return the options that every program of ours is compiled with, for `jax.jit`.

    On a CPU, YNNPACK's reductions are ten times slower than XLA's own: a tenth of a training step
    and more of a prefill. Its products stay.

    On a GPU, XLA would join small products of the same input to one, and a base's weights with an
    adapter's A to a new matrix: in decoding, a copy of most weights for every token.
    """
    match platform_of(mesh):
        case "cpu":
            return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
        case "gpu":
            return {"xla_gpu_dot_merger_threshold_mb": "0"}
        case _:
            return None


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())
