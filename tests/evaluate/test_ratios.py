"""The interval of a ratio of sums: identities with that of a mean, and where nothing varies."""

import numpy as np
import pytest

from dart_jax.evaluate.bootstrap import bootstrap_interval
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.ratios import ratio_interval

CONFIG = EvaluateConfig(bootstrap_samples=400)


def test_whole_clusters_are_resampled():
    """Ten copies of each question of a scenario know no more than one of them."""
    rng = np.random.default_rng(0)
    before, after = rng.random(12) < 0.7, rng.random(12) < 0.4
    one = ratio_interval(after, before, np.arange(12), CONFIG, 3)
    tenfold = (np.repeat(after, 10), np.repeat(before, 10))
    assert ratio_interval(*tenfold, np.repeat(np.arange(12), 10), CONFIG, 3) == pytest.approx(one)
    assert np.ptp(one) > 2 * np.ptp(ratio_interval(*tenfold, np.arange(120), CONFIG, 3))


def test_over_a_whole_of_ones_it_is_the_interval_of_a_mean():
    parts = np.array([1, 0, 0, 1, 0, 0, 0, 1], bool)
    mean = bootstrap_interval(parts.astype(float), CONFIG, 5, np.arange(8))
    assert ratio_interval(parts, np.ones(8), np.arange(8), CONFIG, 5) == pytest.approx(mean)


@pytest.mark.parametrize(("clusters", "reach"), [(1, 0.025), (4, 0.025**0.25)])
def test_where_nothing_varies_few_clusters_are_no_certainty(clusters, reach):
    """Clopper and Pearson: one hit of one leaves any share above 2.5 % possible."""
    whole, where = np.arange(10) < clusters, np.arange(10)
    none = np.zeros(10, bool)
    assert ratio_interval(whole, whole, where, CONFIG, 0) == pytest.approx((reach, 1.0))
    assert ratio_interval(none, whole, where, CONFIG, 0) == pytest.approx((0.0, 1 - reach))


def test_without_a_whole_or_with_one_cluster_there_is_none():
    some = np.array([True, False])
    assert ratio_interval(some, np.zeros(2), np.arange(2), CONFIG, 0) is None
    assert ratio_interval(some, np.ones(2), np.zeros(2), CONFIG, 0) is None
