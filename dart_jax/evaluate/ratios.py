"""Bootstrap interval of a ratio of two sums over questions, such as a recall or a share left."""

import numpy as np

from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import Bounds, percentiles, resampled_clusters


def ratio_interval(
    parts: np.ndarray,
    wholes: np.ndarray,
    clusters: np.ndarray,
    config: EvaluateConfig,
    seed: int,
) -> Bounds | None:
    """Compute the percentile bootstrap interval of sum(parts) / sum(wholes), by whole clusters.

    Resamples whose whole is 0, which have no ratio, are left out. Where the ratio is 0 or 1 in
    every cluster, all resamples agree, and one question would look as certain as a thousand. The
    open end is then Clopper and Pearson's for so many clusters.

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

    # The chance that Clopper and Pearson leave outside, if each cluster is one draw.
    reach = float(((1 - config.confidence) / 2) ** (1 / np.count_nonzero(whole)))
    if not part.any():
        return 0.0, 1 - reach
    if np.array_equal(part, whole):
        return reach, 1.0

    ratios = []
    for drawn in resampled_clusters(len(names), config, seed):
        wholes_drawn = whole[drawn].sum(axis=1)
        defined = wholes_drawn > 0
        ratios.append(part[drawn].sum(axis=1)[defined] / wholes_drawn[defined])
    return percentiles(np.concatenate(ratios), config.confidence)
