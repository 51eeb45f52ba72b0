"""One way of loading a checkpoint, in a process of its own whose memory its parent watches.

The parent starts it with eight simulated devices, and both take turns over pipes: what the
process holds before it loads, then the load, then a fingerprint of what was loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dart_jax.bench.load import anonymous_bytes
from dart_jax.bench.memory import peak_rss_bytes
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes, param_shapes
from dart_jax.model.load import open_checkpoint
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.weights import LAYER_NAMES, TOP_NAMES, TensorSource, load_params

Load = Callable[[LlamaConfig, TensorSource, Any, PyTree], PyTree]


def load_whole_leaves(
    config: LlamaConfig, source: TensorSource, dtype: Any, shardings: PyTree
) -> PyTree:
    """The peer: each stacked leaf is put together in float32 on the host, cast, and sharded."""

    def read(name: str) -> np.ndarray:
        return source.open(name)[tuple(slice(size) for size in source.tensors[name].shape)]

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        key = path[-1].key
        if path[0].key != "layers":
            return read(TOP_NAMES[key]).T if key == "head" else read(TOP_NAMES[key])
        stacked = np.empty(shape.shape, np.float32)
        for layer in range(config.num_layers):
            stacked[layer] = read(f"model.layers.{layer}.{LAYER_NAMES[key]}").T
        return stacked

    def placed(path: Any, shape: jax.ShapeDtypeStruct, sharding: Any) -> jax.Array:
        own = np.float32 if path[-1].key.endswith("norm") else dtype
        return jax.device_put(leaf(path, shape).astype(own), sharding)

    return jax.tree_util.tree_map_with_path(placed, param_shapes(config), shardings)


WAYS: dict[str, Load] = {"ours": load_params, "whole_leaves": load_whole_leaves}


@jax.jit
def fingerprint(params: PyTree) -> jax.Array:
    """Sum, modulo 2^32, of every number's bits times an odd number that its place determines."""

    def of(array: jax.Array) -> jax.Array:
        unsigned = {2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
        place = jnp.ones(array.shape, jnp.uint32)
        for axis, factor in zip(range(array.ndim), (2, 2654435762, 2246822518), strict=False):
            place += jnp.uint32(factor) * jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
        return jnp.sum(bits * place, dtype=jnp.uint32)

    return jnp.stack([of(array) for array in jax.tree.leaves(params)])


def main(folder: Path, way: str) -> None:
    """The child's end of `bench.load.measure`."""
    # What libraries print goes to the standard error.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(**values: Any) -> None:
        replies.write(json.dumps(values) + "\n")
        replies.flush()
        sys.stdin.readline()

    config, source = open_checkpoint(folder)
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    # What the compiler takes once, whatever it compiles, is no part of loading.
    fingerprint(jax.device_put(jnp.ones((8, 8)), shardings["embed"])).block_until_ready()
    reply(before_bytes=anonymous_bytes(os.getpid()))
    start = time.perf_counter()
    params = jax.block_until_ready(WAYS[way](config, source, jnp.bfloat16, shardings))
    seconds = time.perf_counter() - start
    shards = [shard for leaf in jax.tree.leaves(params) for shard in leaf.addressable_shards]
    reply(
        seconds=seconds,
        array_bytes=sum(shard.data.nbytes for shard in shards),
        peak_rss_bytes=peak_rss_bytes(),
    )
    reply(fingerprint=fingerprint(params).tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
