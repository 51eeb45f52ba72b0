"""Compute how many annotated pairs a figure on the audit needs before it means anything.

A figure is exact enough where its interval reaches no further than `HALF_WIDTH` to either side. The
bootstrap alone would call three answers exact that happen to agree: every resample agrees, too. A
figure is therefore taken to be no more exact than a share of so many cases, by Wilson's interval
(1927), whose half width at the share p is z sqrt(p (1 - p) n + z^2 / 4) / (n + z^2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from dart_jax.summaries import Estimate

HALF_WIDTH = 0.1


@dataclass(frozen=True)
class SampleNeed:
    """A figure's precision, and the further pairs that would make it exact enough.

    Attributes:
        cases: Number of annotated pairs that the figure is a share of, as an effective number.
        half_width: Half of its interval; None without any case.
        more: Further annotated pairs, drawn as these were, until it is exact enough; 0 where it is,
            None where nothing is known without a case.
    """

    cases: float
    half_width: float | None
    more: int | None


def sample_need(
    estimate: Estimate | None, cases: float, answered: int, confidence: float, target: float
) -> SampleNeed:
    """Compute how many more pairs a figure needs.

    Args:
        estimate: The figure with its bootstrap interval; None where it is not defined.
        cases: See `SampleNeed`.
        answered: Annotated pairs, of which the cases are a part that grows with them.
        confidence: Coverage of the intervals.
        target: Half width that is asked for, above 0 and below 1.
    """
    if estimate is None or not cases:
        return SampleNeed(cases, None, None)

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = min(max(estimate.value, 0.0), 1.0)  # kappa can be below 0
    by_bootstrap = (estimate.high - estimate.low) / 2
    half_width = max(by_bootstrap, _wilson_half_width(share, cases, z))

    # An interval narrows with the square root of the number of pairs.
    growth = max((by_bootstrap / target) ** 2, _wilson_cases(share, target, z) / cases)
    return SampleNeed(cases, half_width, max(math.ceil(answered * (growth - 1)), 0))


def _wilson_half_width(share: float, cases: float, z: float) -> float:
    return z * math.sqrt(share * (1 - share) * cases + z**2 / 4) / (cases + z**2)


def _wilson_cases(share: float, half_width: float, z: float) -> float:
    """Number of cases at which Wilson's interval has this half width; 0 where none is wider."""
    if half_width >= 0.5:
        return 0.0
    # The half width's formula, squared: a n^2 + b n + c = 0, with c below 0.
    a = half_width**2
    b = z**2 * (2 * a - share * (1 - share))
    c = z**4 * (a - 0.25)
    return (-b + math.sqrt(b**2 - 4 * a * c)) / (2 * a)
