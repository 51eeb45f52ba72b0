"""The loss of examples that are not trained on, measured on the way; and early stopping by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from dart_jax.append_only import append_jsonl, resume_jsonl
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.model.packed_attention import Layout
from dart_jax.model.sharding import compiler_options, data_parallel, replicated
from dart_jax.processes import is_primary, on_primary
from dart_jax.records import digest, read_jsonl, write_jsonl
from dart_jax.sft.batch import Batch, StepBatch
from dart_jax.sft.config import SftConfig
from dart_jax.sft.early_stopping import Best, best_of
from dart_jax.sft.examples import Example
from dart_jax.sft.metrics import NonFiniteLoss
from dart_jax.sft.packing import NothingSupervised, make_plan
from dart_jax.sft.step import StepShardings, TrainSpec, batch_sharding, loss_sum, place_batch

VALIDATION = "validation.jsonl"
"""Name of the file beside the training's log."""

VALIDATION_LOSS = "validation/loss"
"""Name under which trackers show the loss of the held-out examples."""


@dataclass(frozen=True)
class ValidationLine:
    """One measurement on the held-out examples, a line of `validation.jsonl`.

    Attributes:
        step: Optimizer steps before it; 0 before the first.
        epoch: Epochs before it, with the share of the one that has begun.
        loss: Weighted cross-entropy over its normaliser, in nats without dropout, as `LogLine.loss`
            of one step with all of them.
        examples: Number of held-out examples.
    """

    step: int
    epoch: float
    loss: float
    examples: int

    def __str__(self) -> str:
        when = f"after step {self.step}" if self.step else "before the first step"
        if self.step and self.epoch == int(self.epoch):
            when = f"after epoch {self.epoch:g}"
        return f"loss of {self.examples} held-out examples {when}: {self.loss:.4f}"


def read_validation(folder: Path) -> list[ValidationLine]:
    """Read the measurements of a training; none where nothing was held out."""
    path = folder / VALIDATION
    return read_jsonl(path, ValidationLine) if path.exists() else []


class Schedule(NamedTuple):
    """The steps at which the held-out loss is measured.

    Attributes:
        steps: Steps of the whole training.
        epoch: Steps of an epoch.
        every: `sft.validate_every`.
    """

    steps: int
    epoch: int
    every: int | None

    def due(self, step: int) -> bool:
        """Tell whether a measurement follows a step, counted from 1."""
        between = self.every is not None and step % self.every == 0
        return between or step % self.epoch == 0 or step == self.steps


class Validation:
    """Measures the loss of held-out examples, and keeps the measurements of earlier starts.

    Args:
        program: Gives loss sum and normaliser of [A, B, T] micro-batches.
        finished: Steps of earlier starts; measurements after these are dropped.
        patience: `sft.early_stopping`.
        best: The best of the measurements of earlier starts.

    Attributes:
        schedule: When to measure.
        best: The best adapter so far; None without early stopping.
    """

    def __init__(
        self,
        program: jax.stages.Wrapped,
        model: Model,
        batches: Sequence[StepBatch],
        path: Path,
        finished: int,
        schedule: Schedule,
        patience: int | None,
        best: Best | None,
    ):
        self._program, self._model, self._batches, self._path = program, model, batches, path
        self._patience, self.schedule, self.best = patience, schedule, best
        if is_primary():
            earlier = resume_jsonl(path, ValidationLine)
            # Later steps are about to be run again, and measured again; so is the state before the
            # first, by a start from nothing.
            kept = [line for line in earlier if finished and line.step <= finished]
            write_jsonl(path, kept)

    @property
    def is_over(self) -> bool:
        """Tell whether the training ends here, by `sft.early_stopping`."""
        return self.best is not None and self.best.since >= self._patience

    def measure(self, step: int, lora_params: LoraParams) -> ValidationLine:
        """Measure after a step (0: before the first), append a line to the file, and return it."""
        total = normaliser = 0.0
        examples = 0
        for planned in self._batches:
            batches = place_batch(planned.batch, self._model.mesh)
            sums = self._program(lora_params, self._model.base_params, batches, planned.layout)
            total, normaliser = total + float(sums[0]), normaliser + float(sums[1])
            examples += int((planned.examples >= 0).sum())

        # One division at the end, as over micro-batches: the batches need not weigh the same.
        # Of one process: all have to draw the same conclusion from the same number.
        loss = on_primary(lambda: total / normaliser)
        if self._patience is not None:
            if not math.isfinite(loss):
                raise NonFiniteLoss(
                    f"step {step}: loss {loss} of the held-out examples (sft.validation_share), by "
                    "which sft.early_stopping cannot choose. Look at their weights and texts, or "
                    "try a lower sft.learning_rate or model.dtype float32"
                )
            self.best = best_of(self.best, step, loss, lora_params)

        line = ValidationLine(step, round(step / self.schedule.epoch, 4), loss, examples)
        if is_primary():
            append_jsonl(self._path, [line])
        return line

    def conclusion(self, step: int) -> str:
        """Say which adapter early stopping chose, after the last step that was trained."""
        whole = step == self.schedule.steps
        ended = "all steps trained" if whole else f"stopped early after step {step}"
        return (
            f"{ended} of {self.schedule.steps}; the adapter is that of step {self.best.step}, with "
            f"the least loss of the held-out examples, {self.best.loss:.4f}"
        )


def open_validation(
    held_out: Sequence[Example],
    model: Model,
    spec: TrainSpec,
    sft: SftConfig,
    shardings: StepShardings,
    folder: Path,
    finished: int,
    schedule: Schedule,
    best: Best | None,
) -> Validation | None:
    """Prepare the measurement; None without held-out examples.

    Args:
        finished, best: Of earlier starts: their steps, and the best adapter of these.

    Raises:
        NothingSupervised: All held-out examples weigh 0.
    """
    if not held_out:
        return None
    if not any(example.is_supervised for example in held_out):
        raise NothingSupervised(
            "sft.validation_share: no token of the held-out examples has a weight above 0; give "
            "more rows a weight, or set it to 0"
        )

    # Any seed: each example is in the sums once, in whatever order.
    plan = make_plan(held_out, sft, epochs=1, seed=0, data_parallel=data_parallel(model.mesh))
    whole = replicated(model.mesh)
    program = jax.jit(
        partial(_sums, spec=spec._replace(token_loss=None)),
        static_argnames="layout",
        in_shardings=(
            shardings.state.lora_params,
            shardings.arguments[1],
            batch_sharding(model.mesh),
        ),
        out_shardings=(whole, whole),
        compiler_options=compiler_options(model.mesh),
    )
    batches = [plan[index] for index in range(len(plan))]
    path, patience = folder / VALIDATION, sft.early_stopping
    return Validation(program, model, batches, path, finished, schedule, patience, best)


def stopping_identity(held_out: Sequence[Example], sft: SftConfig) -> dict[str, Any]:
    """Identify what an early stop depends on; nothing where the training has none."""
    if not held_out or sft.early_stopping is None:
        return {}
    facts = [(e.tokens, e.prompt_length, e.weight, e.token_weights) for e in held_out]
    return {
        "early_stopping": {
            "patience": sft.early_stopping,
            "every": sft.validate_every,
            "held_out": digest(facts),
        }
    }


def _sums(
    lora_params: LoraParams, base_params: PyTree, batches: Batch, layout: Layout, *, spec: TrainSpec
) -> tuple[Array, Array]:
    """Sum loss and normaliser over the micro-batches, without dropout."""

    def add(sums: tuple[Array, Array], batch: Batch) -> tuple[tuple[Array, Array], None]:
        total, (normaliser, _, _) = loss_sum(lora_params, base_params, batch, spec, layout)
        return jax.tree.map(jnp.add, sums, (total, normaliser)), None

    sums, _ = jax.lax.scan(add, (jnp.zeros(()), jnp.zeros(())), batches)
    return sums
