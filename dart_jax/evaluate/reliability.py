"""Calibration of stated probabilities: do questions that get 0.8 turn out DIFF in 80 % of cases?"""

from dataclasses import dataclass

import numpy as np

BINS = 10
"""Bins of equal width over [0, 1]."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The questions whose probability of YES lies in one bin.

    Attributes:
        n: Their number, at least 1.
        probability: Mean of the probabilities.
        diff_share: Share of them that are DIFF, for which YES is right.
    """

    n: int
    probability: float
    diff_share: float


@dataclass(frozen=True)
class Reliability:
    """Reliability of one model's probabilities of YES.

    Attributes:
        ece: Expected calibration error: the mean distance of `probability` from `diff_share` over
            the bins, each weighted by its questions (Guo et al. 2017, arXiv 1706.04599, for two
            classes). It is above 0 by chance alone, the more the fewer the questions.
        bins: Those that hold a question, in order.
    """

    ece: float
    bins: list[ReliabilityBin]


def reliability(probabilities: np.ndarray, is_diff: np.ndarray) -> Reliability:
    """Compare probabilities of YES with what was right.

    Args:
        probabilities: [n] in [0, 1], n at least 1.
        is_diff: [n] true where YES is right.
    """
    # A probability of exactly 1 belongs to the last bin.
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        probability, share = probabilities[inside].mean(), is_diff[inside].mean()
        bins.append(ReliabilityBin(int(inside.sum()), float(probability), float(share)))

    distances = [row.n * abs(row.probability - row.diff_share) for row in bins]
    return Reliability(sum(distances) / len(probabilities), bins)
