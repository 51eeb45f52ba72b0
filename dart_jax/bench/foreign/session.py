"""A foreign peer's decoding session, see `Worker`: its program in its own environment, asked."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from dart_jax.bench.foreign.environments import python_of
from dart_jax.bench.foreign.protocol import Order, encode
from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Round, Variant, cut
from dart_jax.machine import cores
from dart_jax.model.load import open_checkpoint
from dart_jax.model.lora import LoraParams
from dart_jax.model.merged import write_config, write_merged
from dart_jax.model.peft_file import load_peft, load_peft_config
from dart_jax.model.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[3]
SHARD_BYTES = 5 * 10**9
# A tiny model's, too, holds some pages.
LEAST_CACHE = 2**28
# Seconds that a program may take to end.
PATIENCE = 30


class Decoding:
    """Starts the program and waits until it has loaded."""

    def __init__(self, job: DecodeJob, variant: Variant):
        self._stop_ids = load_tokenizer(Path(job.model)).stop_ids if job.natural_stops else ()
        self._folder = tempfile.TemporaryDirectory(prefix="dart_jax_peer_")
        peer = variant.framework
        order = make_order(job, variant, Path(self._folder.name))
        module = f"{__package__}.run_{peer}"
        self._program = Program([str(python_of(peer)), "-m", module])
        self._facts = self._program.ask(encode(order))

    def facts(self) -> dict[str, Any]:
        """Version, and what holds the models."""
        return {"platform": "cpu", "device": "cpu", **self._facts}

    def round(self, epoch: int) -> Round:
        """Answer every prompt with both models; `epoch` changes nothing."""
        reply = self._program.ask("\n")
        tokens, stops = {}, {}
        for model, rows in reply["tokens"].items():
            tokens[model], stops[model] = cut(rows, self._stop_ids)
        return Round(reply["seconds"], Answers(tokens, stops), reply["peak_rss_bytes"], None)


class Program:
    """A process that serves `protocol`; it ends with this object, or with this process."""

    def __init__(self, command: list[str]):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        weakref.finalize(self, _end, self._process)

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for the reply.

        Raises:
            RuntimeError: The program has ended; what it printed is in this process's log.
        """
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            raise RuntimeError(f"the peer's program ended with {self._process.wait()}, see above")
        return json.loads(reply)


def _end(process: subprocess.Popen) -> None:
    """Wait until it is gone, so that the next variant has the machine for itself."""
    process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
    process.stdout.close()


def make_order(job: DecodeJob, variant: Variant, folder: Path) -> Order:
    """The job as its program takes it; the models are written to `folder`."""
    config, _ = open_checkpoint(Path(job.model))
    lora = load_peft_config(Path(job.adapter))
    none: LoraParams = {}
    adapters = {BASE: none, ADAPTED: load_peft(Path(job.adapter), config, lora)}
    models = {}
    for name, adapter in adapters.items():
        models[name] = _write_float32(job.model, adapter, lora.scale, folder / name)

    longest = max(len(prompt) for prompt in job.prompts.values())
    itemsize = np.dtype(np.float32).itemsize // (2 if variant.dtype == "bfloat16" else 1)
    token_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize
    # The room that most rows leave, which are shorter, keeps prefixes of finished ones.
    cache_bytes = token_bytes * variant.batch * (longest + job.new_tokens)
    cache_bytes = max(cache_bytes, LEAST_CACHE)
    return Order(
        models=models,
        prompts=[list(prompt) for prompt in job.prompts.values()],
        stop_ids=list(load_tokenizer(Path(job.model)).stop_ids),
        new_tokens=job.new_tokens,
        natural_stops=job.natural_stops,
        dtype=variant.dtype,
        rows=variant.batch,
        threads=cores(),
        cache_bytes=cache_bytes,
        shape=dataclasses.asdict(config),
    )


def _write_float32(model: str, adapter: LoraParams, scale: float, folder: Path) -> str:
    folder.mkdir()
    config, source = open_checkpoint(Path(model))
    write_merged(folder, source, adapter, scale, dtype="float32", max_shard_bytes=SHARD_BYTES)
    write_config(folder, Path(model), config, "float32")
    return str(folder)
