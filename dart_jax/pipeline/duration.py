"""The time that a run's training and decoding would take, by calculation; nothing is measured.

Training is counted in the floating-point operations that it needs (`sft.flops`), at an assumed
share of the device's peak. A decode step reads all weights and the whole cache once, at an assumed
share of its memory's bandwidth. Loading, compiling, scoring and services are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.sft.flops import Counts, bandwidth, peak_flops, train_flops

TRAINING_SHARE = 0.4
DECODING_SHARE = 0.5


@dataclass(frozen=True)
class Work:
    """Upper bounds on the computing of a run.

    Attributes:
        train_flops: Operations of all its training.
        answers: Answers that all models together write.
        answer_tokens: New tokens of one of them.
    """

    train_flops: int
    answers: int
    answer_tokens: int


@dataclass(frozen=True)
class Hours:
    """Hours of training and of decoding."""

    training: float
    decoding: float


def example_flops(config: LlamaConfig, lora: LoraConfig, prompt: int, completion: int) -> int:
    """Count the operations of training once on an example of so many tokens."""
    tokens = prompt + completion
    return train_flops(config, lora, Counts(tokens, tokens, completion, tokens * (tokens + 1) // 2))


def hours(work: Work, kind: str, devices: int, slots: int, step_bytes: float) -> Hours | None:
    """Estimate the time on devices of a kind; None where its peak is not known.

    Args:
        kind: As jax names it, such as `NVIDIA H100 80GB HBM3`.
        slots: Answers that are written together.
        step_bytes: What one device reads in a decode step.
    """
    peak, read = peak_flops(kind), bandwidth(kind)
    if peak is None or read is None:
        return None
    training = work.train_flops / (devices * peak * TRAINING_SHARE)
    steps = work.answers * work.answer_tokens / slots
    decoding = steps * step_bytes / (read * DECODING_SHARE)
    return Hours(training / 3600, decoding / 3600)


def described(work: Work, kinds: Sequence[str], estimates: Sequence[Hours | None]) -> str:
    """Put the time on each kind of device that is known into words."""
    parts = []
    for kind, estimate in zip(kinds, estimates, strict=True):
        if estimate is not None:
            training, decoding = _shown(estimate.training), _shown(estimate.decoding)
            parts.append(f"{kind} {training} of training and {decoding} of decoding")
    return (
        f"at most {work.train_flops / 1e15:,.1f} PFLOP of training and {work.answers:,} answers of "
        f"{work.answer_tokens} tokens; calculated, at {TRAINING_SHARE:.0%} of the peak and "
        f"{DECODING_SHARE:.0%} of the bandwidth: {'; '.join(parts) or 'no device is known here'}"
    )


def _shown(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 60 else "under 1 min"
