"""Measure the rules for refusals against labels that people gave.

A full refusal is a positive; partial ones and none are negatives, as in XSTest's rates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import ConfigDict

from dart_jax.audit.refusals import Refusal
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import estimate
from dart_jax.summaries import Bounds, Estimate, read_json

MEASURED = Path(__file__).with_name("refusal_error.json")
"""Output of `python -m dart_jax audit refusals --out`; `configs/results/` has the same file."""

MEASURES = ("precision", "recall", "f1")

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class RefusalError:
    """Error of the rules on a set of answers, against people's labels.

    Attributes:
        n: Number of answers.
        confusion: Number of answers by people's label, then by the rules' grade.
        precision, recall, f1: Measures of the full refusals, in [0, 1]; None where not defined.
        intervals: Percentile bootstrap intervals of these, over answers; None likewise.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    n: int
    confusion: dict[str, dict[str, int]]
    precision: float | None
    recall: float | None
    f1: float | None
    intervals: dict[str, Bounds | None]

    def estimate(self, measure: str) -> Estimate:
        """Return one of `MEASURES` with its interval."""
        return estimate(getattr(self, measure), self.intervals[measure])


@dataclass(frozen=True)
class FileError:
    """Error of the rules on the answers of one file.

    Attributes:
        name, sha256: Name and content of the file.
        error: The error over all its answers.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    sha256: str
    error: RefusalError


@dataclass(frozen=True)
class RefusalMeasurement:
    """A measurement of the rules on files of labelled answers.

    Attributes:
        command: Command that repeats the measurement.
        commit: Commit of the code, see `commands/refusals.py`.
        machine: Description by `dart_jax.machine`.
        rules: Digest of the rules.
        confidence: Coverage of the intervals.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    command: str
    commit: str | None
    machine: dict[str, Any]
    rules: str
    confidence: float
    files: list[FileError]


def refusal_error(
    labels: Sequence[Refusal], grades: Sequence[Refusal], config: EvaluateConfig, seed: int = 0
) -> RefusalError:
    """Compare the rules' grades of some answers with people's labels.

    Args:
        labels: People's labels, one for each answer.
        grades: The rules' grades, in the same order.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.
    """
    pairs = Counter(zip(labels, grades, strict=True))
    counts = _counts(pairs)

    confusion = {}
    for label in Refusal:
        confusion[str(label)] = {str(grade): pairs[label, grade] for grade in Refusal}

    # Answers drawn again with replacement are counts drawn from a multinomial distribution.
    rng = np.random.default_rng(seed)
    # Without answers all shares are 0, and every measure comes out as not defined.
    shares = counts / max(len(labels), 1)
    resampled = _measures(rng.multinomial(len(labels), shares, config.bootstrap_samples))

    values = {name: _number(of_all[0]) for name, of_all in _measures(counts[None]).items()}
    intervals = {name: _interval(drawn, config) for name, drawn in resampled.items()}

    return RefusalError(n=len(labels), confusion=confusion, **values, intervals=intervals)


def measured_error() -> RefusalMeasurement:
    """Read the committed measurement on two models' answers; see `commands/refusals.py`.

    All of these answers were in view when the rules were written.
    """
    return read_json(MEASURED, RefusalMeasurement)


def _counts(pairs: Counter[tuple[Refusal, Refusal]]) -> Int[np.ndarray, " 4"]:
    """Count true positives, false positives, false negatives and true negatives."""
    counts = np.zeros((2, 2), int)
    for (label, grade), count in pairs.items():
        counts[int(label is not Refusal.FULL), int(grade is not Refusal.FULL)] += count

    (both, missed), (wrong, neither) = counts
    return np.array([both, wrong, missed, neither])


def _measures(counts: Int[np.ndarray, "N 4"]) -> dict[str, Float[np.ndarray, " N"]]:
    """Compute MEASURES for each row of counts; nan where there is nothing to divide by."""
    both, wrong, missed, _ = counts.T
    with np.errstate(invalid="ignore"):
        precision = both / (both + wrong)
        recall = both / (both + missed)
        f1 = 2 * both / (2 * both + wrong + missed)
    return {"precision": precision, "recall": recall, "f1": f1}


def _interval(values: Float[np.ndarray, " N"], config: EvaluateConfig) -> Bounds | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    tails = (1 - config.confidence) / 2, (1 + config.confidence) / 2
    low, high = np.quantile(defined, tails)
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
