"""Our side: the training step and the decoder that the stages use, on one device as the peer."""

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

from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Epoch, Round, TrainJob, Variant
from dart_jax.bench.worker import memory_bytes, product_rate
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import decode
from dart_jax.generate.plan import Request
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.llama import init_params, param_axes, param_shapes
from dart_jax.model.load import load_model
from dart_jax.model.lora import init_lora
from dart_jax.model.peft_file import load_peft, load_peft_config
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.sft.flops import train_flops
from dart_jax.sft.jitted_step import jit_step
from dart_jax.sft.metrics import count_step
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import (
    Metrics,
    TrainState,
    make_optimizer,
    place_batch,
    state_shardings,
    train_spec,
)


class Training:
    """A training session, see `Worker`."""

    def __init__(self, job: TrainJob, variant: Variant):
        self._job, self._dtype = job, variant.dtype
        self._mesh, self._key = _one_device(), jax.random.key(job.seed)
        self._sft = dataclasses.replace(
            job.sft,
            micro_batch_size=variant.batch,
            remat=variant.remat or job.sft.remat,
            packing=variant.packing or job.sft.packing,
        )
        self._config, self._base = _base_params(job, variant, self._mesh)
        self._plan = make_plan(job.examples, self._sft, epochs=job.sft.epochs, seed=job.seed)

        if job.adapter is None:
            lora_params = init_lora(self._key, self._config, job.lora)
        else:
            lora_params = load_peft(Path(job.adapter), self._config, job.lora)
        rates = jnp.asarray(job.learning_rates, jnp.float32)
        optimizer = make_optimizer(lambda count: rates[count], self._sft)
        fresh = TrainState(jnp.zeros((), jnp.int32), lora_params, optimizer.init(lora_params))
        spec = train_spec(self._config, job.lora, self._sft, self._mesh)
        self._state = jax.device_put(fresh, state_shardings(fresh, self._mesh))
        self._update = jit_step(spec, optimizer, fresh, self._base)
        self._compile()

    def facts(self) -> dict[str, Any]:
        """Packing, rows, and the operations of a step (mean over the first epoch)."""
        micro_batches, rows, row_tokens = self._plan[0].batch.tokens.shape
        steps = [self._plan[index] for index in range(self._job.steps_per_epoch)]
        flops = [train_flops(self._config, self._job.lora, count_step(step)) for step in steps]
        return {
            **_device(self._dtype),
            "packing": self._sft.packing,
            "remat": self._sft.remat,
            "micro_batches_per_step": micro_batches,
            "rows_per_micro_batch": rows,
            "row_tokens": row_tokens,
            "step_flops": sum(flops) / len(flops),
        }

    def _compile(self) -> None:
        """Run each shape of the plan once, on a copy of the state."""
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
            self._state, step_metrics = self._run(self._state, index)
            padded += self._plan[index].batch.tokens.size
            metrics.append(step_metrics)
        jax.block_until_ready((self._state, metrics))
        seconds = time.perf_counter() - started

        sums = [step.examples for step in jax.device_get(metrics)]
        total = sum(float(np.sum(step.loss)) for step in sums)
        loss = total / sum(float(np.sum(step.tokens)) for step in sums)
        return _round(seconds, Epoch(loss, padded))

    def _run(self, state: TrainState, index: int) -> tuple[TrainState, Metrics]:
        planned = self._plan[index]
        batch = place_batch(planned.batch, self._mesh)
        return self._update(state, self._base, batch, self._key, None, planned.layout)


class Decoding:
    """A decoding session, see `Worker`."""

    def __init__(self, job: DecodeJob, variant: Variant):
        self._job, self._dtype = job, variant.dtype
        config = ModelConfig(path=job.model, dtype=variant.dtype)
        self._model = load_model(config, _one_device())
        lora = load_peft_config(Path(job.adapter))
        self._adapter = load_peft(Path(job.adapter), self._model.config, lora), lora.scale
        self._config = DecodeConfig(
            temperature=job.temperature,
            top_p=job.top_p,
            max_new_tokens=job.new_tokens,
            slots=variant.batch,
        )
        self.round(0)  # compiles

    def facts(self) -> dict[str, Any]:
        """Device, and what holds the models."""
        return {**_device(self._dtype), "models_in_memory": "one base, adapter apart"}

    def round(self, epoch: int) -> Round:
        """Answer every prompt with both models in one call; `epoch` changes nothing."""
        job, requests = self._job, []
        for model in (BASE, ADAPTED):
            requests += [Request(id, tokens, model) for id, tokens in job.prompts.items()]
        started = time.perf_counter()
        found = decode(
            self._model,
            {ADAPTED: self._adapter},
            requests,
            self._config,
            seed=job.seed,
            min_new_tokens=0 if job.natural_stops else job.new_tokens,
        )
        seconds = time.perf_counter() - started

        halves = {BASE: found[: job.amount], ADAPTED: found[job.amount :]}
        answers = Answers(
            tokens={model: [list(one.tokens) for one in half] for model, half in halves.items()},
            stops={model: [one.stop.value for one in half] for model, half in halves.items()},
        )
        return _round(seconds, answers)


def _one_device() -> Mesh:
    return make_mesh(MeshConfig(), jax.devices()[:1])


def _base_params(job: TrainJob, variant: Variant, mesh: Mesh) -> tuple[LlamaConfig, PyTree]:
    """Architecture and weights: those of a folder, or random ones of a shape."""
    if isinstance(job.model, str):
        model = load_model(ModelConfig(path=job.model, dtype=variant.dtype), mesh)
        return model.config, model.base_params
    config, dtype = job.model, jnp.dtype(variant.dtype)
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    draw = jax.jit(lambda key: init_params(key, config, dtype), out_shardings=shardings)
    return config, draw(jax.random.key(job.seed))


def _device(dtype: str) -> dict[str, Any]:
    """Name the device that jax runs on, and measure its rate in large matrix products."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    square, product = jnp.ones((size, size), dtype), jax.jit(jnp.matmul)
    rate = product_rate(lambda: product(square, square), jax.block_until_ready, size)
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "matmul_flops_per_second": rate,
    }


def _round(seconds: float, result: Epoch | Answers) -> Round:
    stats = jax.devices()[0].memory_stats() or {}
    return Round(seconds, result, memory_bytes("VmHWM"), stats.get("peak_bytes_in_use"))
