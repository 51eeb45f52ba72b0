"""Compute mean and t interval of a figure over seeds, and of differences paired by seed.

Few seeds make a t interval wide, and that of a share may pass 0 or 100 %. It is cut there: the mean
cannot lie outside, so that the cut interval covers it as often as the whole one does. (On the logit
scale it would need no cut, but a share of 0 or 1, as small test sets give, has no logit.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dart_jax.summaries import Bounds, Estimate

ANYTHING: Bounds = (-math.inf, math.inf)
"""The bounds of a figure that may have any value."""


@dataclass(frozen=True)
class OverSeeds:
    """One metric over seeds: mean and Student's t interval.

    Attributes:
        n: Number of seeds with a value.
        mean: None without values.
        low, high: Cut at what is possible. None for fewer than two values: a single one says
            nothing about the spread.
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


def over_seeds(
    values: Mapping[str, float | None], confidence: float, possible: Bounds = ANYTHING
) -> OverSeeds:
    """Compute mean and t interval of the values that are defined.

    Args:
        possible: The least and the greatest value that the figure can have.
    """
    from scipy.stats import t

    known = [value for value in values.values() if value is not None]
    n = len(known)
    mean = math.fsum(known) / n if n else None
    if n < 2:
        return OverSeeds(n, mean, None, None, dict(values))

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * deviation / math.sqrt(n)

    least, greatest = possible
    return OverSeeds(n, mean, max(mean - half, least), min(mean + half, greatest), dict(values))


def difference_by_seed(
    of: OverSeeds, than: OverSeeds, confidence: float, possible: Bounds = ANYTHING
) -> OverSeeds:
    """Subtract `than` from `of`, seed by seed; seeds that only one of them has are left out.

    What a seed does to both, such as the order of the training examples, falls out.

    Args:
        possible: Bounds of the two figures, not of their difference.
    """
    differences: dict[str, float | None] = {}
    for seed, value in of.values.items():
        other = than.values.get(seed)
        if value is not None and other is not None:
            differences[seed] = value - other

    least, greatest = possible
    return over_seeds(differences, confidence, (least - greatest, greatest - least))
