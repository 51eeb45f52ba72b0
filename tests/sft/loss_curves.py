"""Trainings of a tiny decoder on meshes of all devices of all processes; for test_processes.py.

    python loss_curves.py PLAN FILE

PLAN is a JSON list of [packing, [data, fsdp, tensor]]. Each process writes what it found for each
into FILE.<its number>.
"""

import dataclasses
import json
import math
import sys
from pathlib import Path

import jax
import numpy as np

from dart_jax import processes
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.llama import param_axes
from dart_jax.model.sharding import data_parallel, make_mesh, tree_shardings
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.jitted_step import jit_step
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import (
    TrainState,
    make_optimizer,
    make_schedule,
    place_batch,
    state_shardings,
    train_spec,
)
from tests import tiny_model

CONFIG = dataclasses.replace(tiny_model.CONFIG, vocab_size=96)
LORA = LoraConfig(rank=4, alpha=8.0, dropout=0.1, targets=("q", "down"))
LEARNING_RATE = 0.01
EPOCHS = 2


def settings(packing: str) -> SftConfig:
    """32 examples a step, in 2 micro-batches; packed, each of these has 8 rows on any mesh."""
    return SftConfig(
        batch_size=32, micro_batch_size=16, packing=packing, row_length=64, loss_chunk=16
    )


def make_examples() -> list[Example]:
    """64 weighted examples that begin alike; two of them fill a packed row."""
    rng = np.random.default_rng(0)
    prefix = rng.integers(1, CONFIG.vocab_size, 12).tolist()
    found = []
    for index in range(64):
        own, completion = rng.integers(12, 15), rng.integers(8, 11)
        tokens = (*prefix, *rng.integers(1, CONFIG.vocab_size, own + completion).tolist())
        found.append(Example(f"e{index}", tokens, 12 + int(own), float(1 + index % 4)))
    return found


def weights():
    """Base weights and adapter as host arrays; B is not zero, so that dropout matters at once."""
    drawn = tiny_model.random_params(CONFIG), tiny_model.random_adapter(CONFIG, LORA)
    return jax.tree.map(np.asarray, drawn)


def plan_for(packing, mesh):
    """The order of the examples on a mesh."""
    return make_plan(
        make_examples(), settings(packing), epochs=EPOCHS, seed=0, data_parallel=data_parallel(mesh)
    )


def train(packing: str, shape: list[int], devices=None) -> dict:
    """Loss and gradient norm of each step, the final adapter, and the examples of each row."""
    mesh = make_mesh(MeshConfig(*shape), devices)
    sft = settings(packing)
    plan = make_plan(make_examples(), sft, epochs=EPOCHS, seed=0, data_parallel=data_parallel(mesh))
    optimizer = make_optimizer(make_schedule(LEARNING_RATE, sft, len(plan)), sft)
    base, lora = weights()
    base = processes.to_devices(base, tree_shardings(mesh, param_axes(CONFIG), base))
    fresh = TrainState(np.zeros((), np.int32), lora, optimizer.init(lora))
    state = processes.to_devices(fresh, state_shardings(fresh, mesh))
    step = jit_step(train_spec(CONFIG, LORA, sft, mesh), optimizer, fresh, base)
    losses, norms = [], []
    for index in range(len(plan)):
        batch = plan[index]
        rows = place_batch(batch.batch, mesh)
        state, metrics = step(state, base, rows, jax.random.key(7), None, batch.layout)
        losses.append(float(metrics.loss))
        norms.append(float(metrics.grad_norm))
    final = jax.tree.leaves(processes.to_host(state.lora_params))
    return {
        "losses": losses,
        "norms": norms,
        "adapter": np.concatenate([leaf.ravel() for leaf in final]).tolist(),
        "rows": [planned.micro_batches for planned in plan.steps],
    }


if __name__ == "__main__":
    processes.start()
    found = []
    for packing, shape in json.loads(sys.argv[1]):
        devices = jax.devices()[: math.prod(shape)] if processes.process_count() == 1 else None
        found.append(train(packing, shape, devices))
    path = Path(f"{sys.argv[2]}.{processes.process_index()}")
    path.write_text(json.dumps(found), encoding="utf-8")
