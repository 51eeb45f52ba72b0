"""Compute mean and t interval of a figure over seeds, and of differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dart_jax.summaries import Estimate


@dataclass(frozen=True)
class OverSeeds:
    """One metric over seeds: mean and Student's t interval.

    Attributes:
        n: Number of seeds with a value.
        mean: None without values.
        low, high: None for fewer than two values: a single one says nothing about the spread.
        values: Value by seed; None where the metric is not defined.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    values: dict[str, float | None]

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mean, self.low, self.high)


def over_seeds(values: Mapping[str, float | None], confidence: float) -> OverSeeds:
    """Compute mean and t interval of the values that are defined."""
    from scipy.stats import t

    known = [value for value in values.values() if value is not None]
    n = len(known)
    mean = math.fsum(known) / n if n else None
    if n < 2:
        return OverSeeds(n, mean, None, None, dict(values))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * deviation / math.sqrt(n)
    return OverSeeds(n, mean, mean - half, mean + half, dict(values))


def difference_by_seed(of: OverSeeds, than: OverSeeds, confidence: float) -> OverSeeds:
    """Subtract `than` from `of`, seed by seed; seeds that only one of them has are left out.

    What a seed does to both, such as the order of the training examples, falls out.
    """
    differences: dict[str, float | None] = {}
    for seed, value in of.values.items():
        other = than.values.get(seed)
        if value is not None and other is not None:
            differences[seed] = value - other
    return over_seeds(differences, confidence)
