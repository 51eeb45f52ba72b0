"""The loss of examples that are not trained on: before the first step and after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from dart_jax.append_only import append_jsonl, resume_jsonl
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams
from dart_jax.model.packed_attention import Layout
from dart_jax.model.sharding import compiler_options, data_parallel, replicated
from dart_jax.processes import is_primary
from dart_jax.records import read_jsonl, write_jsonl
from dart_jax.sft.batch import Batch, StepBatch
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.packing import NothingSupervised, make_plan
from dart_jax.sft.step import StepShardings, TrainSpec, batch_sharding, loss_sum, place_batch

VALIDATION = "validation.jsonl"
"""Name of the file beside the training's log."""


@dataclass(frozen=True)
class ValidationLine:
    """One measurement on the held-out examples, a line of `validation.jsonl`.

    Attributes:
        step: Optimizer steps before it; 0 before the first.
        epoch: Epochs before it.
        loss: Weighted cross-entropy over its normaliser, in nats without dropout, as `LogLine.loss`
            of one step with all of them.
        examples: Number of held-out examples.
    """

    step: int
    epoch: int
    loss: float
    examples: int


def read_validation(folder: Path) -> list[ValidationLine]:
    """Read the measurements of a training; none where nothing was held out."""
    path = folder / VALIDATION
    return read_jsonl(path, ValidationLine) if path.exists() else []


class Validation:
    """Measures the loss of held-out examples, and keeps the measurements of earlier starts.

    Args:
        program: Gives loss sum and normaliser of [A, B, T] micro-batches.
        finished: Steps of earlier starts; measurements after these are dropped.
    """

    def __init__(
        self,
        program: jax.stages.Wrapped,
        model: Model,
        steps: Sequence[StepBatch],
        path: Path,
        finished: int,
    ):
        self._program, self._model, self._steps, self._path = program, model, steps, path
        if is_primary():
            earlier = resume_jsonl(path, ValidationLine)
            # Later steps are about to be run again, and measured again; so is the state before the
            # first, by a start from nothing.
            kept = [line for line in earlier if finished and line.step <= finished]
            write_jsonl(path, kept)

    def measure(self, step: int, epoch: int, lora_params: LoraParams) -> str:
        """Append a line to the file; return it in words."""
        total = normaliser = 0.0
        examples = 0
        for planned in self._steps:
            batches = place_batch(planned.batch, self._model.mesh)
            sums = self._program(lora_params, self._model.base_params, batches, planned.layout)
            total, normaliser = total + float(sums[0]), normaliser + float(sums[1])
            examples += int((planned.examples >= 0).sum())

        # One division at the end, as over micro-batches: the batches need not weigh the same.
        line = ValidationLine(step, epoch, total / normaliser, examples)
        if is_primary():
            append_jsonl(self._path, [line])
        when = f"after epoch {epoch}" if step else "before the first step"
        return f"loss of {examples} held-out examples {when}: {line.loss:.4f}"


def open_validation(
    held_out: Sequence[Example],
    model: Model,
    spec: TrainSpec,
    sft: SftConfig,
    shardings: StepShardings,
    folder: Path,
    finished: int,
) -> Validation | None:
    """Prepare the measurement; None without held-out examples.

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
    steps = [plan[index] for index in range(len(plan))]
    return Validation(program, model, steps, folder / VALIDATION, finished)


def _sums(
    lora_params: LoraParams, base_params: PyTree, batches: Batch, layout: Layout, *, spec: TrainSpec
) -> tuple[Array, Array]:
    """Sum loss and normaliser over the micro-batches, without dropout."""

    def add(sums: tuple[Array, Array], batch: Batch) -> tuple[tuple[Array, Array], None]:
        total, (normaliser, _, _) = loss_sum(lora_params, base_params, batch, spec, layout)
        return jax.tree.map(jnp.add, sums, (total, normaliser)), None

    sums, _ = jax.lax.scan(add, (jnp.zeros(()), jnp.zeros(())), batches)
    return sums
