"""Bootstrap interval of a ratio of two sums over questions, such as a recall or a share left."""

import numpy as np

from dart_jax.evaluate.bootstrap import SHARE, agreed_interval, percentiles, resampled_clusters
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.summaries import Bounds


def ratio_interval(
    parts: np.ndarray,
    wholes: np.ndarray,
    clusters: np.ndarray,
    config: EvaluateConfig,
    seed: int,
) -> Bounds | None:
    """Compute the percentile bootstrap interval of sum(parts) / sum(wholes), by whole clusters.

    Resamples whose whole is 0, which have no ratio, are left out. Where the ratio is 0 or 1 in
    every cluster, the interval is `bootstrap.agreed_interval`.

    Args:
        parts, wholes: [n] values of each question, from 0 up.
        clusters: [n] cluster of each question.
        config: Number of resamples and coverage of the interval.
        seed: The same seed and clusters give the same resamples, so that intervals are paired.

    Returns:
        `(low, high)`; None where the whole is 0, or with a single cluster.
    """
    names, index = np.unique(clusters, return_inverse=True)
    part, whole = np.bincount(index, weights=parts), np.bincount(index, weights=wholes)
    if len(names) < 2 or not whole.any():
        return None

    if not part.any() or np.array_equal(part, whole):
        ratio = 1.0 if part.any() else 0.0
        # A cluster without a whole has no ratio: it has not been seen to agree.
        return agreed_interval(ratio, np.count_nonzero(whole), config.confidence, SHARE)

    ratios = []
    for drawn in resampled_clusters(len(names), config, seed):
        wholes_drawn = whole[drawn].sum(axis=1)
        defined = wholes_drawn > 0
        ratios.append(part[drawn].sum(axis=1)[defined] / wholes_drawn[defined])

    return percentiles(np.concatenate(ratios), config.confidence)
