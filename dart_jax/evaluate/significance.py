"""Significance tests: McNemar, sign flips by cluster, Wilcoxon, Mann-Whitney; Holm's correction.

All tests are two-sided. Where there is nothing to compare, a test returns the value that its
docstring states, never nan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's test of two models on the same questions.

    Attributes:
        gained, lost: Questions that only the candidate, and only the baseline, gets right.
        p: p-value; 1 without a discordant question.
    """

    gained: int
    lost: int
    p: float


@dataclass(frozen=True)
class Wilcoxon:
    """Result of Wilcoxon's signed-rank test of paired scores.

    Attributes:
        n, nonzero: Number of pairs, and of pairs with a difference.
        mean_difference: Mean of candidate - baseline; None without pairs.
        effect: Matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-): 1 where every
            difference is a rise, -1 where every one is a fall, 0 without a difference.
        p: p-value; 1 without a difference.
    """

    n: int
    nonzero: int
    mean_difference: float | None
    effect: float
    p: float


@dataclass(frozen=True)
class MannWhitney:
    """Result of the Mann-Whitney U test of the scores of two groups.

    Attributes:
        n_first, n_second: Number of scores in each group.
        mean_first, mean_second: Mean score; None for an empty group.
        effect: Rank-biserial correlation 2U / (n1 n2) - 1: the chance that a score of the first
            group is the higher one, less the chance that it is the lower one.
        p: p-value; 1, with effect 0, where all scores are the same. Both are None where a group is
            empty.
    """

    n_first: int
    n_second: int
    mean_first: float | None
    mean_second: float | None
    effect: float | None
    p: float | None


def mcnemar(candidate: np.ndarray, baseline: np.ndarray) -> McNemar:
    """Run the exact McNemar test of two models' correctness on the same questions.

        baseline    wrong  wrong  right  right
        candidate   wrong  RIGHT  WRONG  right
                           gained lost

    Under the null hypothesis each discordant question falls to either side with chance 1/2, so
    that the smaller of the two counts is binomial. The question is the unit.

    Args:
        candidate, baseline: [n] correct or not.

    Reference: McNemar (1947), Psychometrika 12, 153-157.
    """
    from scipy.stats import binomtest

    candidate, baseline = np.asarray(candidate, bool), np.asarray(baseline, bool)
    gained = int((candidate & ~baseline).sum())
    lost = int((~candidate & baseline).sum())
    discordant = gained + lost
    p = binomtest(min(gained, lost), discordant).pvalue if discordant else 1.0
    return McNemar(gained, lost, float(p))


def sign_flip_p(differences: np.ndarray, clusters: np.ndarray) -> float:
    """Run the exact sign-flip test of paired differences, with the cluster as the unit.

    Questions of one scenario are not independent, which McNemar's test takes them to be. Here all
    differences of a cluster change their sign together; the p-value is the share of the 2^K sign
    patterns whose sum is at least as far from 0 as the observed one, computed by convolution. With
    one question in each cluster it is the p-value of `mcnemar`.

    Args:
        differences: [n] of -1, 0, 1: correct(candidate) - correct(baseline).
        clusters: [n] cluster of each question.

    Returns:
        p in [0, 1]; 1 where the differences of every cluster sum to 0.
    """
    if not len(differences):
        return 1.0

    # A cluster whose differences cancel stays 0 whatever its sign: it drops out of the test.
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.rint(np.bincount(index, weights=differences)).astype(int)
    sizes = np.abs(sums[sums != 0])

    # chances[reach + s] is the probability that the clusters so far sum to s.
    reach = int(sizes.sum())
    chances = np.zeros(2 * reach + 1)

    chances[reach] = 1.0
    for size in sizes:
        # `roll` wraps around, but only zeros: no sum reaches an end before the last cluster.
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2

    is_extreme = np.abs(np.arange(-reach, reach + 1)) >= abs(int(sums.sum()))
    # Rounding errors of the sum may pass 1.
    return float(min(1.0, chances[is_extreme].sum()))


def wilcoxon(candidate: np.ndarray, baseline: np.ndarray) -> Wilcoxon:
    """Run the Wilcoxon signed-rank test of paired scores, without pairs of equal scores.

    Reference: Wilcoxon (1945), Biometrics Bulletin 1, 80-83; Kerby (2014), 11.IT.3.1.
    """
    from scipy.stats import rankdata
    from scipy.stats import wilcoxon as signed_rank

    differences = np.asarray(candidate, float) - np.asarray(baseline, float)
    nonzero = differences[differences != 0]

    effect, p = 0.0, 1.0
    if len(nonzero):
        ranks = rankdata(np.abs(nonzero))
        effect = float((ranks * np.sign(nonzero)).sum() / ranks.sum())
        p = float(signed_rank(nonzero).pvalue)

    return Wilcoxon(
        n=len(differences),
        nonzero=len(nonzero),
        mean_difference=float(differences.mean()) if len(differences) else None,
        effect=effect,
        p=p,
    )


def mann_whitney(first: np.ndarray, second: np.ndarray) -> MannWhitney:
    """Run the Mann-Whitney U test of two groups of scores.

    Reference: Mann and Whitney (1947), Annals of Mathematical Statistics 18, 50-60.
    """
    from scipy.stats import mannwhitneyu

    first, second = np.asarray(first, float), np.asarray(second, float)

    effect: float | None = None
    p: float | None = None
    if len(first) and len(second):
        effect, p = 0.0, 1.0
        if len(np.unique([*first, *second])) > 1:
            test = mannwhitneyu(first, second)
            effect = float(2 * test.statistic / (len(first) * len(second)) - 1)
            p = float(test.pvalue)

    return MannWhitney(
        n_first=len(first),
        n_second=len(second),
        mean_first=float(first.mean()) if len(first) else None,
        mean_second=float(second.mean()) if len(second) else None,
        effect=effect,
        p=p,
    )


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of one family by Holm's step-down method; a None stays None.

    Returns:
        Corrected p-values in the given order: the i-th smallest of m (counted from 0) times m - i,
        at most 1 and never below the corrected value of a smaller one.

    Reference: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    order = sorted((p, place) for place, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        corrected[place] = highest
    return corrected
