"""Our side of the training benchmark: the step and the plan that the stages use."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from dart_jax.bench.job import Job, Round, Variant, example_counts
from dart_jax.bench.memory import peak_rss_bytes
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.llama import init_params, param_axes, param_shapes
from dart_jax.model.load import load_model
from dart_jax.model.lora import LoraParams, init_lora
from dart_jax.model.peft_file import load_peft
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.sft.flops import Counts, count_attended_pairs, train_flops
from dart_jax.sft.optimizer import make_optimizer
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import (
    Metrics,
    TrainState,
    compile_step,
    place_batch,
    state_shardings,
    step_spec,
)


def open_session(job: Job, variant: Variant) -> OursSession:
    """Load the job on one device, as the peer has one."""
    return OursSession(job, variant)


class OursSession:
    """See `bench.job.Session`."""

    def __init__(self, job: Job, variant: Variant):
        self._job, self._dtype = job, jnp.dtype(variant.dtype)
        self._sft = dataclasses.replace(
            job.sft,
            micro_batch_size=variant.micro_batch,
            remat=variant.remat or job.sft.remat,
        )
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self._config, self._base = _base_params(job, variant, mesh)
        self._plan = make_plan(job.examples, self._sft, epochs=job.sft.epochs, seed=job.seed)
        rates = jnp.asarray(job.learning_rates, jnp.float32)
        optimizer = make_optimizer(lambda count: rates[count], self._sft)
        lora = _initial_adapter(job, self._config)
        fresh = TrainState(jnp.zeros((), jnp.int32), lora, optimizer.init(lora))
        self._state = jax.device_put(fresh, state_shardings(fresh, mesh))
        spec = step_spec(self._config, job.lora, self._sft, mesh)
        self._step = compile_step(spec, optimizer, mesh, fresh)
        self._mesh, self._key = mesh, jax.random.key(job.seed)

    def describe(self) -> dict[str, Any]:
        """Packing, rows and device."""
        tokens = self._plan[0].batch.tokens
        return {
            "device": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "packing": self._sft.packing,
            "remat": self._sft.remat,
            "micro_batches_per_step": tokens.shape[0],
            "rows_per_micro_batch": tokens.shape[1],
            "row_tokens": tokens.shape[2],
            "step_flops": self._step_flops(),
        }

    def warm_up(self) -> None:
        """Compile each shape of the plan and run it once, on a copy of the state."""
        seen = set()
        for index in range(len(self._plan)):
            planned = self._plan[index]
            shape = (planned.batch.tokens.shape, planned.layout)
            if shape not in seen:
                seen.add(shape)
                copy = jax.tree.map(jnp.copy, self._state)
                jax.block_until_ready(self._run(copy, index))

    def round(self, epoch: int) -> Round:
        """Train one epoch of the plan."""
        steps = self._job.steps_per_epoch
        padded, metrics = 0, []
        started = time.perf_counter()
        for index in range(epoch * steps, (epoch + 1) * steps):
            self._state, found, tokens = self._run(self._state, index)
            padded += tokens
            metrics.append(found)
        jax.block_until_ready((self._state, metrics))
        seconds = time.perf_counter() - started
        stats = jax.devices()[0].memory_stats() or {}
        return Round(
            seconds=seconds,
            loss=_mean_loss(metrics),
            padded_tokens=padded,
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=stats.get("peak_bytes_in_use"),
            **example_counts(self._job.examples),
        )

    def matmul_rate(self) -> float:
        """See `bench.job.Session`; in the base weights' type."""
        return matmul_rate(self._dtype)

    def _run(self, state: TrainState, index: int) -> tuple[TrainState, Metrics, int]:
        planned = self._plan[index]
        batch = place_batch(planned.batch, self._mesh)
        state, metrics = self._step(state, self._base, batch, self._key, layout=planned.layout)
        return state, metrics, planned.batch.tokens.size

    def _step_flops(self) -> float:
        """Mean over the first epoch's steps; see `sft.flops.train_flops`."""
        steps = self._job.steps_per_epoch
        return sum(self._flops_of(index) for index in range(steps)) / steps

    def _flops_of(self, index: int) -> int:
        batch = self._plan[index].batch
        counts = Counts(
            padded_tokens=batch.tokens.size,
            tokens=int((batch.segment_ids != 0).sum()),
            supervised_tokens=int((batch.loss_weights > 0).sum()),
            attended_pairs=count_attended_pairs(batch.segment_ids),
        )
        return train_flops(self._config, self._job.lora, counts)


def matmul_rate(dtype: jnp.dtype) -> float:
    """See `bench.job.Session`."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    started = time.perf_counter()
    for _ in range(8):
        last = product(square, square)
    jax.block_until_ready(last)
    return 8 * 2 * size**3 / (time.perf_counter() - started)


def _base_params(job: Job, variant: Variant, mesh: Mesh) -> tuple[LlamaConfig, PyTree]:
    if isinstance(job.model, str):
        model = load_model(ModelConfig(path=job.model, dtype=variant.dtype), mesh)
        return model.config, model.base_params
    config = job.model
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    dtype = jnp.dtype(variant.dtype)
    draw = jax.jit(lambda key: init_params(key, config, dtype), out_shardings=shardings)
    return config, draw(jax.random.key(job.seed))


def _initial_adapter(job: Job, config: LlamaConfig) -> LoraParams:
    if job.adapter is None:
        return init_lora(jax.random.key(job.seed), config, job.lora)
    return load_peft(Path(job.adapter), config, job.lora)


def _mean_loss(metrics: list[Metrics]) -> float:
    sums = [step.examples for step in jax.device_get(metrics)]
    total = sum(float(np.sum(step.loss)) for step in sums)
    return total / sum(float(np.sum(step.tokens)) for step in sums)
