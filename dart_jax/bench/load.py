"""Host memory while a checkpoint is loaded over eight simulated devices.

A synthetic Llama checkpoint is written to a temporary folder and loaded by `load_params` and, as
the peer, leaf by leaf. On a CPU the devices' memory is the host's, so that what loading takes is

    host_peak = largest anonymous memory while loading - the same before - the arrays
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import PyTree

from dart_jax.bench.jobs import Round, Variant
from dart_jax.bench.options import LoadOptions
from dart_jax.bench.worker import Worker, memory_bytes
from dart_jax.machine import machine, versions
from dart_jax.model.architecture import LlamaConfig, to_hf_config
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes, param_shapes
from dart_jax.model.load import open_checkpoint
from dart_jax.model.presets import PRESETS
from dart_jax.model.safetensors_file import save_shards
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.weights import (
    LAYER_NAMES,
    TOP_NAMES,
    TensorSource,
    load_params,
    tensor_shapes,
)

DEVICES = 8
_FILE_BYTES = 2**29
_SAMPLE_SECONDS = 0.002


def run(options: LoadOptions) -> dict[str, Any]:
    """Measure and print; what was printed.

    Raises:
        RuntimeError: Two loaders loaded different weights, or one failed (WorkerDied).
    """
    with tempfile.TemporaryDirectory(prefix="dart-jax-load-") as name:
        folder = Path(name)
        checkpoint = write_checkpoint(folder, options.gib)
        ours = measure(folder, "ours", folder)
        peer = measure(folder, "whole_leaves", folder)
    if peer.pop("fingerprint") != ours.pop("fingerprint"):
        raise RuntimeError("whole_leaves loaded other weights than ours: nothing was compared")
    for found in (ours, peer):
        share = found["host_peak_bytes"] / checkpoint["largest_tensor_bytes"]
        found["host_peak_per_largest_tensor"] = round(share, 3)
    result = {
        "checkpoint": checkpoint,
        "mesh": {"fsdp": DEVICES},
        "ours": ours,
        "peers": {"whole_leaves": peer},
        "machine": machine(),
        "versions": versions(("jax", "safetensors", "numpy")),
    }
    print(json.dumps(result, indent=1))
    return result


def write_checkpoint(folder: Path, gib: float) -> dict[str, Any]:
    """Write a random bfloat16 checkpoint with Llama-3-8B's proportions; its sizes."""
    # 480 width^2 parameters of two bytes.
    width = 64 * max(1, round((gib * 2**30 / 960) ** 0.5 / 64))
    config = dataclasses.replace(
        PRESETS["llama-3-8b"],
        vocab_size=32 * width,
        embed_dim=width,
        head_dim=width // 32,
        ffn_dim=7 * width // 2,
    )
    (folder / "config.json").write_text(json.dumps(to_hf_config(config)), encoding="utf-8")
    shapes = tensor_shapes(config)
    # A prime number of values: no two rows or tensors are alike, and none has to be drawn twice.
    drawn = np.random.default_rng(0).normal(0, 0.02, 1_000_003).astype(ml_dtypes.bfloat16)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for number, (name, shape) in enumerate(shapes.items()):
            yield name, np.resize(np.roll(drawn, number), shape)

    files, total_bytes = save_shards(folder, tensors(), _FILE_BYTES)
    sizes = {name: 2 * int(np.prod(shape)) for name, shape in shapes.items()}
    largest = max(sizes, key=sizes.__getitem__)
    return {
        "bytes": total_bytes,
        "files": files,
        "tensors": len(shapes),
        "largest_tensor": largest,
        "largest_tensor_bytes": sizes[largest],
        "largest_leaf_bytes": 2 * config.num_layers * config.ffn_dim * width,
    }


def measure(folder: Path, way: str, log: Path) -> dict[str, Any]:
    """Load a checkpoint in a process that is watched from outside.

    Args:
        way: ours or whole_leaves.
        log: Folder for what the process prints.
    """
    with Worker(Loading, folder, Variant(way, "bfloat16"), log) as worker:
        before = worker.facts()["before_bytes"]
        with watched(worker.pid) as peak:
            one = worker.round(0)
    return {
        "host_peak_bytes": peak[0] - before - one.result["array_bytes"],
        "before_bytes": before,
        "peak_anonymous_bytes": peak[0],
        "seconds": one.seconds,
        "peak_rss_bytes": one.peak_rss_bytes,
        **one.result,
    }


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """The largest anonymous memory of a process within a `with`, seen every two milliseconds."""
    peak, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            try:
                peak[0] = max(peak[0], memory_bytes("RssAnon", pid))
            except (RuntimeError, FileNotFoundError):
                return  # The process has ended, which whoever calls the worker will notice.

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


class Loading:
    """A session that loads a checkpoint folder over eight devices, see `Worker`."""

    def __init__(self, folder: Path, variant: Variant):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", DEVICES)
        self._config, self._source = open_checkpoint(folder)
        mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
        shapes = param_shapes(self._config)
        self._shardings = tree_shardings(mesh, param_axes(self._config), shapes)
        self._load = load_params if variant.framework == "ours" else load_whole_leaves
        # What the compiler takes once, whatever it compiles, is no part of loading.
        square = jax.device_put(jnp.ones((DEVICES, DEVICES)), self._shardings["embed"])
        jax.jit(jnp.sum)(square).block_until_ready()

    def facts(self) -> dict[str, Any]:
        """Memory before loading."""
        return {"before_bytes": memory_bytes("RssAnon")}

    def round(self, epoch: int) -> Round:
        """Load."""
        start = time.perf_counter()
        params = self._load(self._config, self._source, jnp.bfloat16, self._shardings)
        jax.block_until_ready(params)
        seconds, peak = time.perf_counter() - start, memory_bytes("VmHWM")

        shards = []
        for leaf in jax.tree.leaves(params):
            shards += [np.asarray(shard.data) for shard in leaf.addressable_shards]
        # On a CPU these are the arrays' own memory: nothing is copied.
        prints = [hashlib.sha256(shard.view(np.uint8)).hexdigest() for shard in shards]
        loaded = {"array_bytes": sum(shard.nbytes for shard in shards), "fingerprint": prints}
        return Round(seconds, loaded, peak, None)


def load_whole_leaves(
    config: LlamaConfig, source: TensorSource, dtype: Any, shardings: PyTree
) -> PyTree:
    """The peer: each stacked leaf is put together in float32 on the host, cast, and sharded."""

    def read(name: str) -> np.ndarray:
        return source.open(name)[tuple(slice(size) for size in source.tensors[name].shape)]

    def placed(path: Any, shape: jax.ShapeDtypeStruct, sharding: Any) -> jax.Array:
        key = path[-1].key
        if path[0].key == "layers":
            leaf = np.empty(shape.shape, np.float32)
            for layer in range(config.num_layers):
                leaf[layer] = read(f"model.layers.{layer}.{LAYER_NAMES[key]}").T
        else:
            leaf = read(TOP_NAMES[key])
        whole = leaf.T if key == "head" else leaf
        stored = np.float32 if key.endswith("norm") else dtype
        return jax.device_put(whole.astype(stored), sharding)

    return jax.tree_util.tree_map_with_path(placed, param_shapes(config), shardings)
