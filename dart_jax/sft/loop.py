"""The training loop: batches, steps, log, checkpoints, and how it stops and goes on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dart_jax.model.config import LoraConfig
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.processes import is_first
from dart_jax.records import digest
from dart_jax.sft.batch import StepBatch, with_origins
from dart_jax.sft.checkpoint import Checkpoints
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.losses import loss_identity
from dart_jax.sft.monitor import Monitor
from dart_jax.sft.optimizer import make_optimizer, make_schedule
from dart_jax.sft.packing import Plan, make_plan
from dart_jax.sft.sinks import open_sinks
from dart_jax.sft.step import (
    Metrics,
    TrainState,
    batch_ways,
    compile_step,
    place_batch,
    state_shardings,
    step_spec,
)
from dart_jax.sft.step_log import workload
from dart_jax.sft.stop import EXIT_STATUS, StopRequest, Terminated
from dart_jax.sft.trace import StepTrace


def train(
    examples: Sequence[Example],
    model: Model,
    initial: LoraParams,
    folder: Path,
    *,
    base: Mapping[str, Any],
    lora: LoraConfig,
    sft: SftConfig,
    epochs: int,
    learning_rate: float,
    seed: int,
    title: str,
    loss: LossConfig | None = None,
) -> LoraParams:
    """Train adapters from `initial` on weighted examples; resumes from `folder` if it can.

    The examples are taken as they are: nothing is merged, dropped or reweighted here. In the
    folder: `log.jsonl` (`StepLog`), `tensorboard/` and `checkpoint/`.

    Args:
        base: What identifies the base model, beside its architecture and the type of its weights;
            a checkpoint in the folder that was trained on another base is refused.
        loss: In place of `sft.loss`.

    Raises:
        NothingSupervised: Before the first step, with a step's examples that all weigh 0.
        NonFiniteLoss: With the step, the example ids and what to try.
        RefusedCheckpoint: The newest checkpoint in the folder is damaged or of another run.
        Terminated: A SIGTERM came; the step in flight was finished and saved.
    """
    mesh = model.mesh
    plan = make_plan(examples, sft, epochs=epochs, seed=seed, ways=batch_ways(mesh))
    plan.check_supervised()
    schedule = make_schedule(learning_rate, sft, len(plan))
    optimizer = make_optimizer(schedule, sft)
    like = jax.eval_shape(lambda params: _state(params, optimizer), initial)
    shardings = state_shardings(like, mesh)
    spec = step_spec(model.config, lora, sft, mesh, loss)
    compiled = compile_step(spec, optimizer, mesh, like)
    # The step donates its state: what it starts from has to stay where it is the reference.
    reference = jax.device_put(initial, shardings.lora_params) if spec.needs_reference else None
    key = jax.random.key(seed)

    def step(state: TrainState, batch: StepBatch) -> tuple[TrainState, Metrics]:
        arrays = with_origins(batch, examples) if spec.token_loss else batch.batch
        rows = place_batch(arrays, mesh)
        return compiled(
            state, model.base_params, rows, key, layout=batch.layout, reference=reference
        )

    whose = identity(model, base, lora, sft, plan, learning_rate, key)
    if spec.token_loss:
        origins = digest([(example.source, example.severity) for example in examples])
        whose |= {"loss": loss_identity(spec.token_loss.config), "origins": origins}
    stopping = False
    with StopRequest() as stop, Checkpoints(folder / "checkpoint", whose) as checkpoints:
        state = checkpoints.restore(like, shardings)
        if state is None:
            state = _first_state(initial, optimizer, shardings)
        done = int(state.step)
        work = workload(model.config, lora, mesh)
        sinks = open_sinks(folder, title, len(plan), done)
        trace = StepTrace(folder / "tensorboard", sft.profile_steps)
        rates = jax.vmap(schedule)(jnp.arange(len(plan))).tolist()
        with Monitor(plan, work, rates, sinks, trace) as monitor:
            for number in range(done + 1, len(plan) + 1):
                batch = plan[number - 1]
                monitor.before(number, batch)
                state, metrics = step(state, batch)
                monitor.after(metrics)
                stopping = stop.agreed()
                if stopping or number % sft.checkpoint_every == 0 or number == len(plan):
                    monitor.flush()  # a state that is no number is not saved
                    checkpoints.save(number, state)
                if stopping:
                    break
        checkpoints.wait()
        if stopping:
            _say(
                f"{title}: stopped by SIGTERM, saved after step {number} of {len(plan)}; "
                "the same command goes on from here",
                to_stderr=True,
            )
            raise Terminated(EXIT_STATUS)
    _say(monitor.summary(title))
    return state.lora_params


def _state(params: LoraParams, optimizer: optax.GradientTransformation) -> TrainState:
    # The step donates its state: train on a copy, the caller keeps the initial adapter.
    copied = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(copied))


def _first_state(
    initial: LoraParams, optimizer: optax.GradientTransformation, shardings: TrainState
) -> TrainState:
    make = jax.jit(_state, static_argnums=1, out_shardings=shardings)
    return make(jax.device_put(initial, shardings.lora_params), optimizer)


def identity(
    model: Model,
    base: Mapping[str, Any],
    lora: LoraConfig,
    sft: SftConfig,
    plan: Plan,
    learning_rate: float,
    key: Array,
) -> dict[str, Any]:
    """What a checkpoint has in common with the run that goes on from it.

    Neither the devices nor what only the layout, the memory or the log depend on: these may
    change between two starts. Another layout adds the same numbers in another order. Under dropout
    it draws other noise, too: the noise of a step comes from the seed, the step and the place of a
    token in its micro-batch, so that the training goes on as it might have gone with another seed.
    """
    return {
        "base": {
            **base,
            "architecture": dataclasses.asdict(model.config),
            "weights_dtype": str(model.base_params["embed"].dtype),
        },
        "adapter": dataclasses.asdict(lora),
        "optimizer": {
            "learning_rate": learning_rate,
            "warmup_share": sft.warmup_share,
            "weight_decay": sft.weight_decay,
            "clip_norm": sft.clip_norm,
            "normaliser": sft.normaliser,
            "steps": len(plan),
        },
        "data": plan.digest(),
        "key": jax.random.key_data(key).tolist(),
    }


def _say(text: str, to_stderr: bool = False) -> None:
    if is_first():
        print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)
