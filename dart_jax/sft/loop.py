"""The training loop: data, state, step, log, checkpoints, and how it stops and goes on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dart_jax.model.config import LoraConfig
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.model.sharding import compiler_options, data_parallel
from dart_jax.processes import is_primary
from dart_jax.records import digest
from dart_jax.sft.batch import with_origins
from dart_jax.sft.checkpoint import Checkpoints
from dart_jax.sft.config import LossConfig, SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.metrics import workload
from dart_jax.sft.monitor import Monitor, ProfilerTrace
from dart_jax.sft.packing import Plan, make_plan, steps_of_epoch
from dart_jax.sft.preemption import EXIT_STATUS, Preemption, Terminated
from dart_jax.sft.sinks import open_sinks
from dart_jax.sft.step import (
    TrainSpec,
    TrainState,
    make_optimizer,
    make_schedule,
    place_batch,
    step_shardings,
    train_spec,
    train_step,
)
from dart_jax.sft.token_losses import loss_identity
from dart_jax.sft.trackers import Tracking
from dart_jax.sft.validation import Schedule, open_validation, stopping_identity


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
    max_steps: int | None = None,
    held_out: Sequence[Example] = (),
    tracking: Tracking | None = None,
) -> LoraParams:
    """Train adapters from `initial` on weighted examples; resumes from `folder` if it can.

    The examples are taken as they are: nothing is merged, dropped or reweighted here. In the
    folder: `log.jsonl` (`metrics.LogLine`), `tensorboard/`, `checkpoint/`, and with held-out
    examples `validation.jsonl` (`validation.ValidationLine`).

    Args:
        base: What identifies the base model, beside its architecture and the type of its weights;
            a checkpoint in the folder that was trained on another base is refused.
        loss: In place of `sft.loss`.
        max_steps: Most steps to train, the schedule of the learning rate included; None for all.
        held_out: Examples whose loss is measured before the first step, after each epoch, and
            every `sft.validate_every` steps. With `sft.early_stopping`, they choose the adapter.
        tracking: Where the log goes beside `log.jsonl`; None for TensorBoard.

    Raises:
        NothingSupervised: Before the first step, with a step's examples that all weigh 0.
        NonFiniteLoss: With the step, the example ids and what to try.
        TrackerFailed: A tracker opened no run.
        RefusedCheckpoint: The newest checkpoint in the folder is damaged or of another run.
        Terminated: A SIGTERM came; the step in flight was finished and saved.
    """
    mesh = model.mesh
    key = jax.random.key(seed)
    # What an earlier stage decoded with would be held beside the training state.
    model.drop_decode_params()

    # The data: which examples meet in which step is fixed before the first one.
    devices = data_parallel(mesh)
    plan = make_plan(
        examples, sft, epochs=epochs, seed=seed, data_parallel=devices, max_steps=max_steps
    )
    plan.check_supervised()
    _say(f"{title}: {plan.summary()}")

    # The state, as shapes for now: it is restored or made below, right where it belongs.
    schedule = make_schedule(learning_rate, sft, len(plan))
    optimizer = make_optimizer(schedule, sft)
    state_shapes = jax.eval_shape(partial(initial_state, optimizer=optimizer), initial)

    # The step: one program for each of the few shapes that the plan has.
    spec = train_spec(model.config, lora, sft, mesh, loss)
    shardings = step_shardings(spec, state_shapes, model.base_params)
    update = jax.jit(
        partial(train_step, spec=spec, optimizer=optimizer),
        static_argnames="layout",
        donate_argnames="state",
        in_shardings=shardings.arguments,
        out_shardings=shardings.results,
        compiler_options=compiler_options(mesh),
    )

    # The step donates its state: where the starting adapter is the reference, it has to stay.
    adapter = jax.device_put(initial, shardings.state.lora_params)
    reference = adapter if spec.needs_reference else None

    training = {
        **identity(model, base, lora, sft, plan, learning_rate, key, spec),
        **stopping_identity(held_out, sft),
    }
    # Preemption is the outer one: a SIGTERM only sets a flag until the last checkpoint is on disk.
    with Preemption() as preemption, Checkpoints(folder / "checkpoint", training) as checkpoints:
        state = checkpoints.restore(state_shapes, shardings.state)
        best = checkpoints.restore_best(state_shapes.lora_params, shardings.state.lora_params)
        if state is None:
            make_state = partial(initial_state, optimizer=optimizer)
            # Under jit, so that the moments come into being where they belong, not on one device.
            state = jax.jit(make_state, out_shardings=shardings.state)(adapter)
        finished = int(state.step)

        measurements = Schedule(len(plan), steps_of_epoch(examples, sft), sft.validate_every)
        validation = open_validation(
            held_out, model, spec, sft, shardings, folder, finished, measurements, best
        )
        # An earlier start may have stopped early, and been killed before its adapter was saved.
        last = finished if validation and validation.is_over else len(plan)

        work = workload(model.config, lora, mesh)
        rates = jax.vmap(schedule)(jnp.arange(len(plan))).tolist()
        sinks = open_sinks(folder, title, last, finished, tracking)
        trace = ProfilerTrace(folder / "tensorboard", sft.profile_steps)

        stopping = False
        with Monitor(plan, work, rates, sinks, trace) as monitor:
            # A start that goes on has this line from an earlier one.
            if validation and not finished:
                measured = validation.measure(0, state.lora_params)
                monitor.measured(measured)
                _say(f"{title}: {measured}")

            for step in range(finished + 1, last + 1):
                planned = plan[step - 1]
                monitor.before(step, planned)

                arrays = with_origins(planned, examples) if spec.token_loss else planned.batch
                batches = place_batch(arrays, mesh)
                state, metrics = update(
                    state, model.base_params, batches, key, reference, planned.layout
                )
                monitor.after(metrics)

                if validation and measurements.due(step):
                    # Otherwise the measurement would count as time of the step in flight.
                    monitor.flush()
                    measured = validation.measure(step, state.lora_params)
                    monitor.measured(measured)
                    _say(f"{title}: {measured}")
                    # The loop ends below, once this step is saved.
                    last = step if validation.is_over else last

                # In every step of every process: with several, all of them compute the answer.
                stopping = preemption.agreed()
                if stopping or step % sft.checkpoint_every == 0 or step == last:
                    monitor.flush()  # a state that is no number is not saved
                    checkpoints.save(step, state, validation.best if validation else None)
                if stopping or step == last:
                    break

        # The last save runs in the background, and the message says that it is done.
        checkpoints.wait()
        if stopping:
            _say(
                f"{title}: stopped by SIGTERM, saved after step {step} of {len(plan)}; "
                "the same command goes on from here",
                to_stderr=True,
            )
            raise Terminated(EXIT_STATUS)
    _say(monitor.summary(title))
    if validation and validation.best:
        _say(f"{title}: {validation.conclusion(last)}")
        return validation.best.adapter
    return state.lora_params


def initial_state(params: LoraParams, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, with a copy of the adapter.

    The step donates its state, and the caller keeps the adapter that it passed.
    """
    copied = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(copied))


def identity(
    model: Model,
    base: Mapping[str, Any],
    lora: LoraConfig,
    sft: SftConfig,
    plan: Plan,
    learning_rate: float,
    key: Array,
    spec: TrainSpec,
) -> dict[str, Any]:
    """Identify a training: the values that a checkpoint shares with the run that goes on from it.

    Left out are the devices and whatever only layout, memory or log depend on: these may change
    between two starts. Another layout adds the same numbers in another order. Under dropout it
    draws other noise, too: the noise of a step comes from the seed, the step and the place of a
    token in its micro-batch, so that the training goes on as it might have gone with another seed.
    """
    shared = {
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
            "loss_normalization": sft.loss_normalization,
            # The learning rate of every step depends on how many there are.
            "steps": len(plan),
        },
        "data": plan.digest(),
        "key": jax.random.key_data(key).tolist(),
    }

    # The plain loss does not look at what an example is for.
    if spec.token_loss:
        origins = [(example.source, example.severity) for example in plan.examples]
        shared["loss"] = loss_identity(spec.token_loss.config)
        shared["origins"] = digest(origins)
    return shared


def _say(text: str, to_stderr: bool = False) -> None:
    if is_primary():
        print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)
