"""The further pairs that a figure on the audit needs are computed right."""

import math

import pytest

from dart_jax.audit.sample_size import SampleNeed, sample_need
from dart_jax.summaries import Estimate


def need(estimate, cases, answered, target=0.1):
    return sample_need(estimate, cases, answered, 0.95, target)


def test_an_interval_narrows_with_the_square_root():
    """At half the width that is asked for, there are four times as many pairs."""
    found = need(Estimate(0.5, 0.3, 0.7), cases=200, answered=1000)
    assert found == SampleNeed(200, pytest.approx(0.2), 3000)


def test_a_few_answers_that_happen_to_agree_are_not_exact():
    found = need(Estimate(1.0, 1.0, 1.0), cases=3, answered=12)
    assert found.half_width == pytest.approx(1.96**2 / 2 / (3 + 1.96**2), rel=1e-4)
    assert found.more == math.ceil(12 * (1.96**2 * 4 / 3 - 1))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("target", [0.02, 0.1, 0.3])
def test_with_that_many_pairs_the_figure_is_exact_enough(share, target):
    first = need(Estimate(share, share, share), cases=4, answered=8, target=target)
    grown = (8 + first.more) / 8
    second = need(Estimate(share, share, share), 4 * grown, 8 + first.more, target)
    assert second.more == 0 and second.half_width <= target + 1e-9


def test_without_a_case_nothing_is_known():
    assert need(None, cases=0.0, answered=9) == SampleNeed(0.0, None, None)
