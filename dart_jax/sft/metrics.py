"""The metrics of one step as a line of the training log: loss, weights and speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.records import Severity
from dart_jax.sft.batch import StepBatch
from dart_jax.sft.examples import Example
from dart_jax.sft.flops import Counts, count_attended_pairs, peak_flops, train_flops
from dart_jax.sft.step import Metrics


class NonFiniteLoss(ArithmeticError):
    """The loss or the gradient is no number; the message names step and examples."""


@dataclass(frozen=True)
class Speed:
    """Speed of one step: the only part of its log line that differs between two equal runs.

    Attributes:
        seconds: Wall time of the step; the first of each shape includes its compilation.
        supervised_tokens_per_second: Targets with a loss.
        real_tokens_per_second: Positions that hold a token; a shared prefix counts once a row.
        padded_tokens_per_second: All positions of the rows, padding included.
        flops_per_second: Needed operations (`train_flops`) over the wall time, all devices.
        utilisation: flops_per_second over the devices' bfloat16 peak, in [0, 1]; None where the
            peak is not known (every CPU).
    """

    seconds: float
    supervised_tokens_per_second: float
    real_tokens_per_second: float
    padded_tokens_per_second: float
    flops_per_second: float
    utilisation: float | None


@dataclass(frozen=True)
class LogLine:
    """One line of a stage's `log.jsonl`.

    Attributes:
        step: 1-based.
        loss: Loss sum divided by its normaliser.
        loss_by_severity: Mean cross-entropy, without weights, per supervised token of the step's
            repair examples, by the severity that they repair (`minor` to `extreme`).
        loss_by_source: The same by what the examples are for (`examples.SOURCES`).
        grad_norm: Global norm of the adapters' gradients before clipping.
        update_norm: Global norm of what the step added to the adapters.
        learning_rate: The one that the step used.
        weight_mass: Sum of loss weights over the step's supervised tokens, as the device saw it.
        examples: Examples in the step.
        effective_examples: Effective sample size (sum w)^2 / sum w^2 (Kish 1965) over the step's
            examples; w is the mean loss weight of an example's supervised tokens.
        supervised_tokens, tokens, padded_tokens: Counts of what `Speed` has a second.
        flops: Needed floating-point operations (`train_flops`), without those of a reference.
        loss_parts: What each part of a `TokenLoss` adds to `loss`; empty for the plain one.
    """

    step: int
    loss: float
    loss_by_severity: dict[str, float]
    loss_by_source: dict[str, float]
    grad_norm: float
    update_norm: float
    learning_rate: float
    weight_mass: float
    examples: int
    effective_examples: float
    supervised_tokens: int
    tokens: int
    padded_tokens: int
    flops: int
    speed: Speed
    loss_parts: dict[str, float] = field(default_factory=dict)


class Workload(NamedTuple):
    """The model and its devices: what turns counts into operations and utilisation.

    Attributes:
        peak: Bfloat16 peak of all devices together, in FLOP/s; None where it is not known.
    """

    config: LlamaConfig
    lora: LoraConfig
    peak: float | None


def workload(config: LlamaConfig, lora: LoraConfig, mesh: Mesh) -> Workload:
    """The workload of a model on the devices of a mesh."""
    peaks = [peak_flops(device.device_kind) for device in mesh.devices.flat]
    return Workload(config, lora, None if None in peaks else sum(peaks))


def make_log_line(
    step: int,
    metrics: Metrics,
    batch: StepBatch,
    examples: Sequence[Example],
    work: Workload,
    *,
    learning_rate: float,
    seconds: float,
) -> LogLine:
    """Make the log line of a finished step; waits for its metrics."""
    values = jax.device_get(metrics)

    present = batch.examples >= 0
    members = [examples[index] for index in batch.examples[present]]
    losses = np.asarray(values.examples.loss, np.float64)[present]
    weights = np.asarray(values.examples.weight, np.float64)[present]
    supervised = np.asarray(values.examples.tokens, np.float64)[present]

    counts = count_step(batch)
    flops = train_flops(work.config, work.lora, counts)
    severities = [None if e.severity is None else severity_name(e.severity) for e in members]

    return LogLine(
        step=step,
        loss=float(values.loss),
        loss_by_severity=mean_loss_by(severities, losses, supervised),
        loss_by_source=mean_loss_by([e.source for e in members], losses, supervised),
        grad_norm=float(values.grad_norm),
        update_norm=float(values.update_norm),
        learning_rate=learning_rate,
        weight_mass=float(weights.sum()),
        examples=len(members),
        # An example without supervised tokens has the weight 0, not 0/0.
        effective_examples=effective_sample_size(weights / np.maximum(supervised, 1)),
        supervised_tokens=counts.supervised_tokens,
        tokens=counts.tokens,
        padded_tokens=counts.padded_tokens,
        flops=flops,
        speed=_speed(counts, flops, work.peak, seconds),
        loss_parts={name: float(part) for name, part in (values.parts or {}).items()},
    )


def scalars(line: LogLine) -> Iterator[tuple[str, float]]:
    """Yield (name, value) of every number of a log line but its step; None is left out."""

    def walk(name: str, value: Any) -> Iterator[tuple[str, float]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from walk(f"{name}/{key}" if name else key, inner)
        elif value is not None:
            yield name, float(value)

    values = dataclasses.asdict(line)
    values.pop("step")
    return walk("", values)


def count_step(batch: StepBatch) -> Counts:
    """Count the tokens and attended pairs of all rows of a step."""
    rows = batch.batch
    return Counts(
        padded_tokens=int(rows.tokens.size),
        tokens=int(np.count_nonzero(rows.segment_ids)),
        supervised_tokens=int(np.count_nonzero(rows.loss_weights)),
        attended_pairs=count_attended_pairs(rows.segment_ids),
    )


def severity_name(severity: int) -> str:
    """`minor`, `moderate`, `severe` or `extreme`."""
    return Severity(severity).name.lower()


def mean_loss_by(
    groups: Sequence[str | None], sums: Float[np.ndarray, " E"], tokens: Float[np.ndarray, " E"]
) -> dict[str, float]:
    """Mean cross-entropy per supervised token of each group of examples; None is no group.

    Args:
        groups: The group of each example.
        sums: Summed cross-entropy of each example's supervised tokens.
        tokens: Their number.
    """
    names = np.array([group or "" for group in groups])
    means = {}
    for name in sorted({group for group in groups if group is not None}):
        total = tokens[names == name].sum()
        # Examples that all weigh 0 have no mean.
        if total > 0:
            means[name] = float(sums[names == name].sum() / total)
    return means


def effective_sample_size(weights: Float[np.ndarray, " E"]) -> float:
    """(sum w)^2 / sum w^2: how many equal examples weigh as unevenly; 0 without any weight."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def _speed(counts: Counts, flops: int, peak: float | None, seconds: float) -> Speed:
    return Speed(
        seconds=round(seconds, 4),
        supervised_tokens_per_second=round(counts.supervised_tokens / seconds, 1),
        real_tokens_per_second=round(counts.tokens / seconds, 1),
        padded_tokens_per_second=round(counts.padded_tokens / seconds, 1),
        flops_per_second=round(flops / seconds, 1),
        utilisation=None if peak is None else round(flops / seconds / peak, 4),
    )
