"""Bootstrap intervals of means over questions, which resample whole scenarios.

Where every scenario says the same, as when a model is right on all questions, each resample does
so too, and four questions would look as certain as four thousand. The interval is then Clopper and
Pearson's for so many scenarios, see `unseen_share`.
"""

from collections.abc import Iterator

import numpy as np

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.summaries import Bounds

SHARE: Bounds = (0.0, 1.0)
"""Between these lies what a question counts in a share, such as an accuracy."""

DIFFERENCE: Bounds = (-1.0, 1.0)
"""Between these lies what a question counts in a difference of two shares."""

_BATCH_CELLS = 4_000_000  # resampled values held at once: about 64 MB with their indices


def bootstrap_interval(
    values: np.ndarray,
    config: EvaluateConfig,
    seed: int,
    clusters: np.ndarray | None = None,
    possible: Bounds = SHARE,
) -> Bounds | None:
    """Compute the percentile bootstrap interval of a mean over questions, by whole clusters.

    Questions made from one scenario resemble each other: resampled one by one, they would give an
    interval that is too narrow.

    Args:
        values: [n] one value for each question.
        config: Number of resamples and coverage of the interval.
        seed: The same seed and clusters give the same resamples, so that intervals are paired.
        clusters: [n] cluster of each question; None makes each question a cluster.
        possible: The least and the greatest value that a question could have.

    Returns:
        `(low, high)`; None without values, or in a single cluster, which leaves nothing to
        resample.
    """
    keys = np.arange(len(values)) if clusters is None else clusters
    # The mean of a resample needs only the sum and the size of each drawn cluster.
    _, index = np.unique(keys, return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    if len(sizes) < 2:
        return None

    if np.all(values == values[0]):
        return agreed_interval(float(values[0]), len(sizes), config.confidence, possible)

    means = []
    for drawn in resampled_clusters(len(sizes), config, seed):
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))

    return percentiles(np.concatenate(means), config.confidence)


def agreed_interval(value: float, clusters: int, confidence: float, possible: Bounds) -> Bounds:
    """Compute the interval of a mean where all clusters have the same value.

    Clusters that were not seen may have another value. They are at most `unseen_share` of all, and
    at worst theirs is the least or the greatest possible.

    >>> agreed_interval(1.0, 32, 0.95, SHARE)  # right on all of 32 scenarios
    (0.8911307467640955, 1.0)
    """
    share = unseen_share(clusters, confidence)
    least, greatest = possible
    return value - share * (value - least), value + share * (greatest - value)


def unseen_share(clusters: int, confidence: float) -> float:
    """Bound the share of clusters that differ, where none of those seen does.

    It is the open end of Clopper and Pearson's interval (1934, Biometrika 26, 404-413) for none
    of so many draws. The rule of three, 3 / clusters, is its like for one side and 95 %.

    Args:
        clusters: Number of clusters seen, at least 1; each is one draw.
        confidence: Coverage of the two-sided interval, in (0, 1).
    """
    tail = (1 - confidence) / 2
    # At this share the chance that none of the clusters seen differs is just `tail`.
    return 1 - tail ** (1 / clusters)


def resampled_clusters(count: int, config: EvaluateConfig, seed: int) -> Iterator[np.ndarray]:
    """Draw the bootstrap's resamples of clusters, with replacement.

    Args:
        count: Number of clusters.
        config: Number of resamples.
        seed: The same seed and count give the same resamples.

    Yields:
        [resamples, count] indices of the drawn clusters. They come in batches: all resamples of a
        large suite at once would not fit in memory.
    """
    rng = np.random.default_rng(seed)
    batch = max(1, _BATCH_CELLS // count)
    for done in range(0, config.bootstrap_samples, batch):
        size = (min(batch, config.bootstrap_samples - done), count)
        yield rng.integers(count, size=size)


def percentiles(values: np.ndarray, confidence: float) -> Bounds:
    """Return the ends of the middle share `confidence` of resampled values."""
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile(values, tails)
    return float(low), float(high)
