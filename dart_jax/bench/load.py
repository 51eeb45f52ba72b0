"""Host memory while a checkpoint is loaded over eight simulated devices.

A synthetic Llama checkpoint is written to a temporary folder and loaded by `load_params` and, as
the peer, leaf by leaf. On a CPU the devices' memory is the host's, so that what loading takes is

    host_peak = largest anonymous memory while loading - the same before - the arrays

Anonymous memory (RssAnon) leaves out the pages of the mapped files: they are the page cache's,
which the kernel takes back when it needs room. `peak_rss_bytes` is the kernel's own maximum with
those pages. Just written, the files are read from the page cache: the seconds are no disk's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from dart_jax.machine import machine, versions

DEVICES = 8
PEERS = ("whole_leaves",)
_FILE_BYTES = 2**29
_SAMPLE_SECONDS = 0.002


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m dart_jax.bench load`."""
    parser.add_argument(
        "--gib", type=float, default=3.0, help="size of the checkpoint, about (default 3)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was printed.

    Raises:
        RuntimeError: A loader failed, or two of them loaded different weights.
    """
    with tempfile.TemporaryDirectory(prefix="dart-jax-load-") as folder:
        checkpoint = write_checkpoint(Path(folder), args.gib)
        measured = {way: measure(Path(folder), way) for way in ("ours", *PEERS)}
    prints = {way: found.pop("fingerprint") for way, found in measured.items()}
    for peer in PEERS:
        if prints[peer] != prints["ours"]:
            raise RuntimeError(f"{peer} loaded other weights than ours: nothing was compared")
    for found in measured.values():
        found["host_peak_per_largest_tensor"] = round(
            found["host_peak_bytes"] / checkpoint["largest_tensor_bytes"], 3
        )
    result = {
        "checkpoint": checkpoint,
        "mesh": {"fsdp": DEVICES},
        "ours": measured.pop("ours"),
        "peers": measured,
        "machine": machine(),
        "versions": versions(("jax", "safetensors", "numpy")),
    }
    print(json.dumps(result, indent=1))
    return result


def write_checkpoint(folder: Path, gib: float) -> dict[str, Any]:
    """A random bfloat16 checkpoint with Llama-3-8B's proportions, and its sizes."""
    import ml_dtypes
    import numpy as np

    from dart_jax.model.architecture import LlamaConfig, to_hf_config
    from dart_jax.model.safetensors_file import save_shards
    from dart_jax.model.weights import tensor_shapes

    # 480 width^2 parameters of two bytes.
    width = 64 * max(1, round((gib * 2**30 / 960) ** 0.5 / 64))
    config = LlamaConfig(
        vocab_size=32 * width,
        num_layers=32,
        embed_dim=width,
        num_heads=32,
        num_kv_heads=8,
        head_dim=width // 32,
        ffn_dim=7 * width // 2,
        rope_theta=500000.0,
        rope_scaling=None,
        norm_eps=1e-5,
        tied_head=False,
        context_length=8192,
    )
    (folder / "config.json").write_text(json.dumps(to_hf_config(config)), encoding="utf-8")
    shapes = tensor_shapes(config)
    # A prime number of values: no two rows or tensors are alike, and none has to be drawn twice.
    drawn = np.random.default_rng(0).normal(0, 0.02, 1_000_003).astype(ml_dtypes.bfloat16)
    tensors = (
        (name, np.resize(np.roll(drawn, number), shape))
        for number, (name, shape) in enumerate(shapes.items())
    )
    files, total_bytes = save_shards(folder, tensors, _FILE_BYTES)
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


def measure(folder: Path, way: str) -> dict[str, Any]:
    """Load a checkpoint in one of `load_worker.WAYS`, watched from outside.

    Raises:
        RuntimeError: The process failed; what it printed is on the standard error.
    """
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "dart_jax.bench.load_worker", str(folder), way]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:

        def answer() -> dict[str, Any]:
            line = child.stdout.readline()
            if not line:
                raise RuntimeError(f"loading {way} ended with exit status {child.wait()}")
            return json.loads(line)

        def go_on() -> None:
            child.stdin.write("\n")
            child.stdin.flush()

        before = answer()["before_bytes"]
        with _Watch(child.pid) as watch:
            go_on()
            found = answer()
        go_on()
        prints = answer()
        go_on()
    peak = watch.peak_bytes
    return {
        "host_peak_bytes": peak - before - found["array_bytes"],
        "before_bytes": before,
        "peak_anonymous_bytes": peak,
        **found,
        **prints,
    }


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is not backed by a file: heap and arrays, no mapped file pages."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/status has no RssAnon; bench load needs Linux 4.5 or later")


class _Watch:
    """The largest anonymous memory of a process within a `with`, seen every two milliseconds."""

    def __init__(self, pid: int):
        self._pid, self._ended, self.peak_bytes = pid, threading.Event(), 0
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._ended.is_set():
            try:
                self.peak_bytes = max(self.peak_bytes, anonymous_bytes(self._pid))
            except (RuntimeError, FileNotFoundError):
                return  # The process has ended, which whoever reads its answers will notice.
            time.sleep(_SAMPLE_SECONDS)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()
