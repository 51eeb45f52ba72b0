"""The training loop: batches, steps, log, checkpoints, and what to do about a bad loss."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from tqdm import tqdm

from dart_jax.model.config import LoraConfig
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.records import append_jsonl, resume_jsonl, write_jsonl
from dart_jax.sft.batch import StepBatch, epoch_batches, make_step_batch
from dart_jax.sft.checkpoint import Checkpoints
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.optimizer import make_optimizer, make_schedule
from dart_jax.sft.step import Metrics, TrainState, compile_step, state_shardings, step_spec


class NonFiniteLoss(ArithmeticError):
    """The loss or the gradient is no number; the message names step and examples."""


@dataclass(frozen=True)
class StepLog:
    """One line of a stage's `log.jsonl`.

    Attributes:
        step: 1-based.
        loss: Loss sum divided by its normaliser.
        grad_norm: Before clipping.
        learning_rate: That the step used.
        weight_mass: Sum of loss weights over the step's supervised tokens.
        tokens: Tokens in the step, padding excluded.
        seconds: Wall time of the step (the first of each shape includes its compilation).
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    weight_mass: float
    tokens: int
    seconds: float


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Optimizer steps in one pass; the last may be short."""
    return -(-num_examples // batch_size)


def train(
    examples: Sequence[Example],
    model: Model,
    initial: LoraParams,
    folder: Path,
    *,
    lora: LoraConfig,
    sft: SftConfig,
    epochs: int,
    learning_rate: float,
    seed: int,
    title: str,
) -> LoraParams:
    """Train adapters from `initial` on weighted examples; resumes from `folder` if it can.

    The examples are taken as they are: nothing is merged, dropped or reweighted here.

    Raises:
        NonFiniteLoss: With the step, the example ids and what to try.
    """
    total = epochs * steps_per_epoch(len(examples), sft.batch_size)
    schedule = make_schedule(learning_rate, sft, total)
    optimizer = make_optimizer(schedule, sft)
    # The step donates its state: train on a copy, the caller keeps `initial`.
    initial = jax.tree.map(jnp.copy, initial)
    fresh = TrainState(jnp.zeros((), jnp.int32), initial, optimizer.init(initial))
    shardings = state_shardings(fresh, model.mesh)
    step = compile_step(step_spec(model.config, lora, sft), optimizer, model.mesh, fresh)
    key = jax.random.key(seed)
    with Checkpoints(folder / "checkpoint") as checkpoints:
        state = checkpoints.restore(fresh, shardings) or jax.device_put(fresh, shardings)
        done = int(state.step)
        _rewind_log(folder / "log.jsonl", done)
        batches = _batches(examples, sft, epochs, seed, skip=done)
        progress = tqdm(batches, title, total=total, initial=done, unit="step", smoothing=0)
        for batch in progress:
            started = time.perf_counter()
            state, metrics = step(
                state, model.base_params, batch.batch, key, supervised=batch.supervised
            )
            done += 1
            log = _log(done, metrics, float(schedule(done - 1)), time.perf_counter() - started)
            _check_finite(log, batch)
            append_jsonl(folder / "log.jsonl", [log])
            progress.set_postfix_str(f"loss {log.loss:.3f}, {log.tokens / log.seconds:.0f} tok/s")
            if done % sft.checkpoint_every == 0 or done == total:
                checkpoints.save(state)
    return state.lora_params


def _batches(
    examples: Sequence[Example], sft: SftConfig, epochs: int, seed: int, skip: int
) -> Iterator[StepBatch]:
    per_epoch = steps_per_epoch(len(examples), sft.batch_size)
    for index in range(skip, epochs * per_epoch):
        epoch, position = divmod(index, per_epoch)
        chosen = epoch_batches(examples, sft.batch_size, seed, epoch)[position]
        yield make_step_batch([examples[i] for i in chosen], sft.batch_size, sft.micro_batches)


def _log(step: int, metrics: Metrics, learning_rate: float, seconds: float) -> StepLog:
    values = jax.device_get(metrics)
    return StepLog(
        step=step,
        loss=float(values.loss),
        grad_norm=float(values.grad_norm),
        learning_rate=learning_rate,
        weight_mass=float(values.weight_mass),
        tokens=int(values.tokens),
        seconds=round(seconds, 4),
    )


def _check_finite(log: StepLog, batch: StepBatch) -> None:
    if math.isfinite(log.loss) and math.isfinite(log.grad_norm):
        return
    raise NonFiniteLoss(
        f"step {log.step}: loss {log.loss}, gradient norm {log.grad_norm}; "
        f"examples {', '.join(batch.ids)}. The last checkpoint is from before this step. Try a "
        "lower sft.learning_rate or repair.learning_rate, a smaller sft.clip_norm, or "
        "model.dtype float32; then look at these examples' weights and texts"
    )


def _rewind_log(path: Path, step: int) -> None:
    """Drop the log lines of steps after the checkpoint: they are about to be run again."""
    kept = [line for line in resume_jsonl(path, StepLog) if line.step <= step]
    write_jsonl(path, kept)
