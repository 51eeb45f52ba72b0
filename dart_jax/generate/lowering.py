"""Lowering a block of decode steps for devices that need not be attached."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.engine import DecodeSpec, Slots, Weights, cache_dtype, programs
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.model.kv_cache import empty_cache
from dart_jax.model.llama import param_axes
from dart_jax.model.lora import init_lora, lora_axes
from dart_jax.model.sharding import platform_of, replicated, sharding_of, tree_shardings
from dart_jax.model.unstacking import bytes_on_a_device, unstacks_layers


def lower_block(
    config: LlamaConfig,
    base_params: PyTree,
    lora: LoraConfig,
    decode: DecodeConfig,
    mesh: Mesh,
    rows: int,
    positions: int,
    memory_bytes: int | None = None,
) -> Any:
    """Lower `decode_block` for M0 and one adapter, sharded as `decode` shards them.

    Args:
        base_params: `jax.ShapeDtypeStruct` of every weight.
        rows: Slots.
        positions: Tokens of a slot's cache.
        memory_bytes: What a program may take of a device's memory.
    """
    dtype = base_params["embed"].dtype
    whole = replicated(mesh)

    def placed(tree: PyTree, shardings: PyTree) -> PyTree:
        def place(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(place, tree, shardings)

    def on_all(shape: tuple[int, ...], kind: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, kind, sharding=whole)

    key = jax.eval_shape(lambda: jax.random.key(0))
    adapter = jax.eval_shape(lambda key: init_lora(key, config, lora), key)
    # As `joint_weights` casts it for decoding.
    adapter = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), adapter)
    base = placed(base_params, tree_shardings(mesh, param_axes(config), base_params))
    joint = placed(adapter, tree_shardings(mesh, lora_axes(adapter), adapter))
    free = None if memory_bytes is None else memory_bytes - bytes_on_a_device(base)
    if unstacks_layers(base["layers"], platform_of(mesh), free):
        base = {**base, "layers": _unstacked(base["layers"], config.num_layers)}
        joint = _unstacked(joint, config.num_layers)
    weights = Weights(
        base=base,
        lora=joint,
        scales=on_all((2, lora.rank), jnp.float32),
    )

    def cached(side: jax.Array) -> jax.ShapeDtypeStruct:
        sharding = sharding_of(mesh, ("batch", "kv_heads", None, None), side.shape)
        return jax.ShapeDtypeStruct(side.shape, side.dtype, sharding=sharding)

    row_cache = jax.eval_shape(
        lambda: empty_cache(config, rows, positions, cache_dtype(mesh, dtype))
    )
    numbers = on_all((rows,), jnp.int32)
    slots = Slots(
        row_cache=jax.tree.map(cached, row_cache),
        prompt=numbers,
        token=numbers,
        count=numbers,
        limit=numbers,
        done=on_all((rows,), jnp.bool_),
        model=numbers,
        keys=on_all((rows,), key.dtype),
    )
    # Stop tokens do not change the program's size.
    spec = DecodeSpec(config, decode.temperature, decode.top_p, decode.top_k, (0,), 0, mesh)
    going = on_all((rows,), jnp.bool_)
    return programs(mesh).decode_block.lower(slots, weights, None, going, None, spec)


def _unstacked(layers: PyTree, count: int) -> tuple[PyTree, ...]:
    """Shapes and shardings of each layer's weights, from those of the stack."""

    def of_a_layer(stack: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        mesh, spec = stack.sharding.mesh, stack.sharding.spec
        sharding = NamedSharding(mesh, PartitionSpec(*spec[1:]))
        return jax.ShapeDtypeStruct(stack.shape[1:], stack.dtype, sharding=sharding)

    return (jax.tree.map(of_a_layer, layers),) * count
