"""Settle `mesh.fsdp` auto by the devices that are there.

A copy of the model on each device (data-parallel) needs no weight from another device, where fsdp
gathers each of them for every step. So the weights are split only where a copy does not fit, and
then into as few parts as do. Neither choice changes what is computed, but for rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from dart_jax.backend import Hardware
from dart_jax.config import DartConfig
from dart_jax.generate.engine import BLOCK, aligned
from dart_jax.generate.plan import LEAST_SLOTS
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import MeshConfig
from dart_jax.model.load import open_checkpoint, resolve_path
from dart_jax.model.sharding import mesh_sizes
from dart_jax.pipeline.footprint import GIB, Devices, decode_footprint, train_footprint
from dart_jax.processes import on_primary

# Of a device's memory: the formula is some per cent off, and what is freed leaves gaps.
_USABLE = 0.9


@dataclass(frozen=True)
class Layout:
    """A mesh without `auto`, and in words why it was chosen."""

    mesh: MeshConfig
    reason: str


def settle(config: DartConfig, found: Hardware, trains: bool) -> DartConfig:
    """Settle the mesh for the devices that are there; where there are several, say which and why.

    Args:
        trains: Whether a training step has to fit, too.

    Raises:
        ValueError: The mesh's axes do not multiply to the number of devices.
        FileNotFoundError, BadCheckpoint: The model whose size decides cannot be opened.
    """
    if config.mesh.fsdp != "auto" or found.count == 1:
        return config
    models = []
    if found.memory is not None:
        models = on_primary(partial(_architectures, config))
    layout = choose(config, found, models, trains)
    print(f"mesh: {layout.reason}", flush=True)
    return dataclasses.replace(config, mesh=layout.mesh)


def _architectures(config: DartConfig) -> list[LlamaConfig]:
    """Read the shapes of M0, then of other models that this process loads beside it."""
    sections = [config.service(role) for role in config.roles]
    local = [section.model for section in sections if section.provider == "local" and section.model]
    paths = dict.fromkeys([config.model.path, config.model.trained_path, *local])
    return [open_checkpoint(resolve_path(path))[0] for path in paths]


def choose(
    config: DartConfig, found: Hardware, models: Sequence[LlamaConfig], trains: bool
) -> Layout:
    """Choose the mesh with the fewest shards that fits a device, of those that the settings allow.

    Args:
        models: M0, and others that are in memory beside it; not used where the memory is unknown.

    Raises:
        ValueError: The mesh's axes do not multiply to the number of devices.
    """
    meshes = _meshes(config.mesh, found.count)
    if found.memory is None:
        unknown = f"the memory of a {found.platform} device is not known"
        return Layout(meshes[0], f"{_described(meshes[0], found)}, as {unknown}")

    needed = [_needed(config, found, models, mesh, trains) for mesh in meshes]
    fitting = [index for index, need in enumerate(needed) if need <= _USABLE * found.memory]
    # Where nothing fits, the smallest of them is tried: a formula is no proof.
    chosen = fitting[0] if fitting else len(meshes) - 1

    reason = f"{_described(meshes[chosen], found)} takes {needed[chosen] / GIB:.1f}"
    if chosen > 0:
        reason += f", and fsdp 1 would take {needed[0] / GIB:.1f},"
    reason += f" of {found.memory / GIB:.1f} GiB a device, by formula"
    return Layout(meshes[chosen], reason)


def _meshes(mesh: MeshConfig, count: int) -> list[MeshConfig]:
    """The mesh as it is set; for fsdp auto the fewest shards first, of the devices left for them.

    Where `mesh.data` is set, nothing is left.
    """
    if mesh.fsdp != "auto":
        return [mesh]
    whole = dataclasses.replace(mesh, fsdp=1)
    rest, *_ = mesh_sizes(whole, count)
    if mesh.data != -1:
        return [whole]
    shards = [size for size in range(1, rest + 1) if rest % size == 0]
    return [dataclasses.replace(mesh, fsdp=size) for size in shards]


def _described(mesh: MeshConfig, found: Hardware) -> str:
    data, fsdp, tensor = mesh_sizes(mesh, found.count)
    parts = fsdp * tensor
    held = f"weights in {parts} parts" if parts > 1 else "a copy of the model on each device"
    return f"data {data}, fsdp {fsdp}, tensor {tensor}, {held}"


def _needed(
    config: DartConfig,
    found: Hardware,
    models: Sequence[LlamaConfig],
    mesh: MeshConfig,
    trains: bool,
) -> float:
    """Count the bytes that training or decoding takes of a device, whichever takes more."""
    data, fsdp, tensor = mesh_sizes(mesh, found.count)
    devices = Devices(data, fsdp, tensor, is_cpu=found.platform == "cpu")
    settings = (config.model, config.lora)
    # No prompt is longer than an example, and decoding takes fewer slots before it takes shards.
    positions = config.sft.max_length + aligned(config.decode.max_new_tokens) + BLOCK
    slots = config.decode.slots
    if slots == "auto":
        slots = LEAST_SLOTS * devices.data_parallel

    base, *others = models
    # The evaluation asks M0 and all adapters side by side.
    adapters = 1 + config.repair.cycles
    taken = decode_footprint(base, *settings, devices, slots, positions, adapters).total
    if trains:
        taken = max(taken, train_footprint(base, *settings, config.sft, devices).total)
    beside = [decode_footprint(other, *settings, devices, 0, 0, 0).total for other in others]
    return taken + sum(beside)
