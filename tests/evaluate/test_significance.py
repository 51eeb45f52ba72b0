"""Tests of differences against textbook and hand-computed values, and their identities."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.evaluate.significance import (
    McNemar,
    Wilcoxon,
    holm,
    mann_whitney,
    mcnemar,
    sign_flip_p,
    wilcoxon,
)

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12)


def columns(pairs):
    return np.array(pairs, bool).T


def outcomes(gained: int, lost: int, same: int = 3):
    """Correctness of candidate and baseline with these discordant counts."""
    return columns([(1, 0)] * gained + [(0, 1)] * lost + [(1, 1), (0, 0)] * same)


def test_mcnemar_by_hand():
    """1 of 6 discordant: 2 * (C(6,0) + C(6,1)) / 2^6 = 14 / 64."""
    assert mcnemar(*outcomes(1, 5)) == McNemar(1, 5, pytest.approx(14 / 64))
    assert mcnemar(*outcomes(0, 3)).p == pytest.approx(2 / 8)


@pytest.mark.parametrize("same", [0, 5])
def test_no_discordant_question_gives_one(same):
    assert mcnemar(*outcomes(0, 0, max(same, 1))) == McNemar(0, 0, 1.0)
    assert mcnemar(np.zeros(0), np.zeros(0)).p == 1.0
    assert sign_flip_p(np.zeros(same), np.arange(same)) == 1.0


@given(PAIRS)
@settings(deadline=None, max_examples=40)
def test_sides_may_be_swapped(pairs):
    candidate, baseline = columns(pairs)
    there, back = mcnemar(candidate, baseline), mcnemar(baseline, candidate)
    assert (there.gained, there.lost, there.p) == (
        back.lost,
        back.gained,
        back.p,
    )
    assert 0 < there.p <= 1


@given(PAIRS)
@settings(deadline=None, max_examples=40)
def test_sign_flips_of_single_questions_are_mcnemar(pairs):
    candidate, baseline = columns(pairs)
    differences = candidate.astype(int) - baseline
    found = sign_flip_p(differences, np.arange(len(pairs)))
    assert found == pytest.approx(mcnemar(candidate, baseline).p)


@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.integers(0, 4)), min_size=1, max_size=14))
@settings(deadline=None, max_examples=40)
def test_sign_flips_against_all_patterns(rows):
    differences, clusters = np.array(rows).T
    sums = [differences[clusters == name].sum() for name in set(clusters.tolist())]
    patterns = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
    expected = np.mean(np.array(patterns) >= abs(sum(sums)))
    assert sign_flip_p(differences, clusters) == pytest.approx(expected)


def test_sign_flips_of_few_clusters_claim_less():
    """Ten questions gained, all of two scenarios: that is two observations, not ten."""
    differences, clusters = np.ones(10), np.repeat(["a", "b"], 5)
    assert sign_flip_p(differences, clusters) == pytest.approx(2 / 4)
    assert sign_flip_p(differences, np.arange(10)) == pytest.approx(2 / 2**10)


def test_wilcoxon_textbook_example():
    """Siegel's (1956) twins: T = 4 with n = 8 is p = 2 * 7 / 256 by counting rank subsets.

    Subsets of 1..8 that sum to at most 4: {}, 1, 2, 3, 4, 1+2, 1+3.
    """
    differences = np.array([19.0, 27, -1, 6, 7, 13, -4, 3])  # ranks of -1 and -4: 1 and 3
    found = wilcoxon(differences, np.zeros(8))
    assert found.p == pytest.approx(2 * 7 / 256)
    assert found.effect == pytest.approx((36 - 2 * 4) / 36)
    assert (found.n, found.nonzero) == (8, 8)


def test_wilcoxon_changes_sign_with_its_sides():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=30), rng.normal(0.5, size=30)
    there, back = wilcoxon(first, second), wilcoxon(second, first)
    assert there.effect == pytest.approx(-back.effect)
    assert there.mean_difference == pytest.approx(-back.mean_difference)
    assert there.p == pytest.approx(back.p)


@pytest.mark.filterwarnings("error")
def test_wilcoxon_without_differences():
    same = np.array([0.1, 0.2])
    assert wilcoxon(same, same) == Wilcoxon(n=2, nonzero=0, mean_difference=0.0, effect=0.0, p=1.0)
    empty = wilcoxon(np.zeros(0), np.zeros(0))
    assert (empty.p, empty.mean_difference) == (1.0, None)
    one = wilcoxon(np.array([0.5]), np.array([0.25]))
    assert (one.p, one.effect) == (1.0, 1.0)
    tied = wilcoxon(np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert 0 < tied.p <= 1 and tied.effect == pytest.approx(1 / 3)


def test_mann_whitney_by_hand():
    """Fully apart, 3 against 3: 2 of the 20 orders are as extreme."""
    apart = mann_whitney(np.array([4.0, 5, 6]), np.array([1.0, 2, 3]))
    assert apart.p == pytest.approx(2 / 20)
    assert apart.effect == 1.0
    back = mann_whitney(np.array([1.0, 2, 3]), np.array([4.0, 5, 6]))
    assert (back.effect, back.p) == (-1.0, pytest.approx(2 / 20))
    # Of the 4 x 3 comparisons of {1, 2, 4, 7} with {3, 5, 6}, the first is higher in 1 + 3.
    some = mann_whitney(np.array([1.0, 2, 4, 7]), np.array([3.0, 5, 6]))
    assert some.effect == pytest.approx((4 - 8) / 12)


@pytest.mark.filterwarnings("error")
def test_mann_whitney_without_a_difference_or_a_group():
    same = mann_whitney(np.ones(3), np.ones(4))
    assert (same.effect, same.p) == (0.0, 1.0)
    none = mann_whitney(np.zeros(0), np.ones(4))
    assert (none.effect, none.p, none.mean_first) == (None, None, None)
    assert none.mean_second == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, None, 0.03]) == [pytest.approx(0.04), None, pytest.approx(0.04)]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_keeps_order_and_never_helps(values):
    corrected = holm(values)
    for p, found in zip(values, corrected, strict=True):
        assert p <= found <= 1
    assert min(corrected) == pytest.approx(min(1.0, min(values) * len(values)))
    by_raw = [found for _, found in sorted(zip(values, corrected, strict=True))]
    assert by_raw == sorted(by_raw)
