"""Hold a sweep's expectations, written down before it ran, against what it found.

An expectation compares two rows of the table in one metric:

    - {of: linear, metric: planted_extreme, below: uniform}

The difference is taken seed by seed. It counts as told from noise where its t interval over the
seeds leaves out zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dart_jax.evaluate.models import POSSIBLE
from dart_jax.evaluate.over_seeds import OverSeeds, difference_by_seed

Finding = Literal["as expected", "the opposite", "not told from noise", "not measured"]


@dataclass(frozen=True)
class Expectation:
    """One row of the table is expected to lie below or above another.

    Attributes:
        of: Name of a variant, whose M_DART is meant.
        than: Another variant, or M_int: the model that the repair of `of` began from.
        metric: One of `models.METRICS`.
    """

    of: str
    metric: str
    side: Literal["below", "above"]
    than: str


@dataclass(frozen=True)
class Tested:
    """An expectation with what was found.

    Attributes:
        difference: `of` minus `than`, over the seeds that have both.
        finding: Judged by the interval; a single seed has none, and tells nothing from noise.
    """

    expectation: Expectation
    difference: OverSeeds
    finding: Finding


def check_expectation(
    expectation: Expectation, of: OverSeeds, than: OverSeeds, confidence: float
) -> Tested:
    """Take the difference seed by seed, and say on which side of zero its interval lies."""
    difference = difference_by_seed(of, than, confidence, POSSIBLE[expectation.metric])
    return Tested(expectation, difference, _finding(expectation, difference))


def _finding(expectation: Expectation, difference: OverSeeds) -> Finding:
    if not difference.n:
        return "not measured"
    if difference.low is None or difference.low <= 0 <= difference.high:
        return "not told from noise"

    found = "below" if difference.high < 0 else "above"
    return "as expected" if found == expectation.side else "the opposite"
