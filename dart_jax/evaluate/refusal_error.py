"""What the rules for refusals get wrong, against labels that people gave.

A positive is a full refusal; partial ones and none are its opposite, as in XSTest's rates.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dart_jax.audit.refusals import Refusal
from dart_jax.evaluate.config import EvaluateConfig

MEASURED = Path(__file__).with_name("refusal_error.json")
"""What `python -m dart_jax.audit refusals --out` wrote; `configs/results/` has the same file."""

MEASURES = ("precision", "recall", "f1")


def refusal_error(
    labels: Sequence[Refusal], grades: Sequence[Refusal], config: EvaluateConfig, seed: int = 0
) -> dict[str, Any]:
    """Compare the rules' grades of some answers with people's labels.

    Args:
        labels: By people, one for each answer.
        grades: By the rules, in the same order.
        config: Number of resamples and coverage.
        seed: Of the resampling.

    Returns:
        `n`; `confusion`: answers by label and by grade; of the full refusals each of `MEASURES`
        (in [0, 1]; None where it is not defined) and `intervals`: their percentile bootstrap
        intervals over answers (`[low, high]`; None likewise).
    """
    pairs = Counter(zip(labels, grades, strict=True))
    counts = _counts(pairs)
    # Answers drawn again with replacement are counts drawn from a multinomial distribution.
    rng, total = np.random.default_rng(seed), max(len(labels), 1)
    drawn = rng.multinomial(len(labels), counts / total, config.bootstrap_samples)
    resampled = _measures(drawn)

    return {
        "n": len(labels),
        "confusion": {
            str(label): {str(grade): pairs[label, grade] for grade in Refusal} for label in Refusal
        },
        **{name: _number(values[0]) for name, values in _measures(counts[None]).items()},
        "intervals": {name: _interval(values, config) for name, values in resampled.items()},
    }


def was_in_view(id: str) -> bool:
    """Whether the rules were written with the answers to a prompt in view: one half of XSTest's."""
    return hashlib.sha256(id.encode()).digest()[0] % 2 == 0


def measured_error() -> dict[str, Any]:
    """The committed measurement of the rules on two models' answers; see `stages/refusals.py`."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def _counts(pairs: Counter[tuple[Refusal, Refusal]]) -> Int[np.ndarray, " 4"]:
    """True positives, false positives, false negatives, true negatives."""
    counts = np.zeros((2, 2), int)
    for (label, grade), count in pairs.items():
        counts[int(label is not Refusal.FULL), int(grade is not Refusal.FULL)] += count
    (both, missed), (wrong, neither) = counts
    return np.array([both, wrong, missed, neither])


def _measures(counts: Int[np.ndarray, "N 4"]) -> dict[str, Float[np.ndarray, " N"]]:
    """By name, of each row of counts; nan where there is nothing to divide by."""
    both, wrong, missed, _ = counts.T
    with np.errstate(invalid="ignore"):
        values = (
            both / (both + wrong),
            both / (both + missed),
            2 * both / (2 * both + wrong + missed),
        )
    return dict(zip(MEASURES, values, strict=True))


def _interval(values: Float[np.ndarray, " N"], config: EvaluateConfig) -> list[float] | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    tails = (1 - config.confidence) / 2, (1 + config.confidence) / 2
    return [float(bound) for bound in np.quantile(defined, tails)]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
