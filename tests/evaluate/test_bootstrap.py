"""Intervals where all scenarios agree: scipy's exact ones, and no certainty of a few."""

import numpy as np
import pytest
from scipy.stats import binomtest

from dart_jax.evaluate.bootstrap import (
    DIFFERENCE,
    SHARE,
    agreed_interval,
    bootstrap_interval,
    unseen_share,
)
from dart_jax.evaluate.config import EvaluateConfig

CONFIG = EvaluateConfig(bootstrap_samples=400)


@pytest.mark.parametrize("clusters", [2, 32, 1000])
def test_all_or_nothing_has_the_exact_interval(clusters):
    for right in (0, clusters):
        exact = binomtest(right, clusters).proportion_ci(0.95, method="exact")
        found = agreed_interval(right / clusters, clusters, 0.95, SHARE)
        assert found == pytest.approx((exact.low, exact.high))


def test_a_difference_reaches_twice_as_far_and_to_both_sides():
    low, high = bootstrap_interval(np.zeros(40), CONFIG, 0, possible=DIFFERENCE)
    assert (low, high) == pytest.approx((-unseen_share(40, 0.95), unseen_share(40, 0.95)))
    low, high = bootstrap_interval(np.ones(40), CONFIG, 0, possible=DIFFERENCE)
    assert (low, high) == pytest.approx((1 - 2 * unseen_share(40, 0.95), 1.0))


def test_scenarios_count_and_not_their_questions():
    ten = bootstrap_interval(np.ones(10), CONFIG, 0)
    assert bootstrap_interval(np.ones(100), CONFIG, 0, np.repeat(np.arange(10), 10)) == ten
    assert bootstrap_interval(np.ones(10), CONFIG, 0, np.zeros(10)) is None
    assert bootstrap_interval(np.empty(0), CONFIG, 0) is None


def test_one_scenario_more_that_disagrees_does_not_narrow_it_by_much():
    """The two methods meet: 31 of 32 right is no less certain than 32 of 32."""
    agreed = np.ptp(bootstrap_interval(np.ones(32), CONFIG, 0))
    nearly = np.ptp(bootstrap_interval(np.arange(32) > 0, CONFIG, 0))
    assert 0.5 < nearly / agreed < 1.5
