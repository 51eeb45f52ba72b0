"""Caps and oversampling keep what the weights mean."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.records import Severity, Target
from dart_jax.teach.config import SEVERITY_WEIGHTS, RepairConfig
from dart_jax.teach.repair import WeightingHadNoEffect, check_weighting, weight_report
from dart_jax.teach.weighting import (
    capped,
    check_copies,
    mass_factor,
    oversampled,
    scaled,
    weight_level,
)

WEIGHTS = st.lists(st.floats(0.05, 20.0), min_size=1, max_size=12)


def targets_of(*weights, severities=(1, 2, 3, 4)):
    return [
        Target(f"q{n}", "repair", "A.", weight, Severity(severities[n % len(severities)]))
        for n, weight in enumerate(weights)
    ]


def test_the_named_weights():
    assert RepairConfig().weights == (1, 2, 3, 4), "the paper's"
    assert {name: RepairConfig(severity_weights=name).weights for name in SEVERITY_WEIGHTS} == {
        "linear": (1, 2, 3, 4),
        "uniform": (1, 1, 1, 1),
        "quadratic": (1, 4, 9, 16),
        "exponential": (1, 2, 4, 8),
    }
    assert RepairConfig(severity_weights=(1, 1, 2, 2.5)).weights == (1.0, 1.0, 2.0, 2.5)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"severity_weights": (1, 2, 0, 4)}, "severity_weights"),
        ({"max_weight_share": 0.0}, "max_weight_share"),
        ({"max_weight_share": 5}, "max_weight_share"),
        ({"span_weight": -1.0}, "span_weight"),
        ({"mass": 0.0}, "mass"),
        ({"mass": 2.0, "max_weight_share": 0.1}, "mass.*max_weight_share"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_unusable_settings_are_named(changes, key):
    with pytest.raises(ValueError, match=rf"repair\.{key}"):
        RepairConfig(**changes)


def test_the_level_by_hand():
    assert weight_level([1, 1, 1, 1, 4], None) == math.inf
    assert weight_level([1, 1, 1, 1, 4], 0.5) == math.inf
    assert weight_level([1, 1, 1, 1, 4], 0.25) == pytest.approx(4 / 3)
    assert weight_level([1, 1, 4, 4], 0.3) == pytest.approx(1.5)
    assert weight_level([3, 1], 0.1) == 1, "two examples hold half each at the least"
    assert weight_level([], 0.5) == math.inf


@given(weights=WEIGHTS, share=st.floats(0.01, 1.0))
def test_no_example_holds_more_than_the_share(weights, share):
    """Or than 1/n, where that is more; milder ones stay below heavier ones, and none rises."""
    level = weight_level(weights, share)
    cut = [target.weight for target in capped(targets_of(*weights), level)]
    assert max(cut) <= max(share, 1 / len(cut)) * math.fsum(cut) * (1 + 1e-9)
    pairs = list(zip(weights, cut, strict=True))
    assert all(after in (before, level) and after <= before for before, after in pairs)


@given(weights=WEIGHTS, share=st.floats(0.01, 1.0))
def test_the_cut_is_no_deeper_than_needed(weights, share):
    """A higher level would break the share."""
    level = weight_level(weights, share)
    if level < max(weights) and share * len(weights) > 1:
        higher = [min(weight, 1.01 * level) for weight in weights]
        assert max(higher) > share * math.fsum(higher)


@pytest.mark.parametrize("seed", range(3))
def test_whole_weights_are_exactly_that_many_copies(seed):
    """Whatever the seed, and beside fractions."""
    targets = targets_of(1, 2.5, 3, 4, 0.25, 2, 16)
    copies = Counter(target.question_id for target in oversampled(targets, seed))
    assert [copies[f"q{n}"] for n in (0, 2, 3, 5, 6)] == [1, 3, 4, 2, 16]
    assert {target.weight for target in oversampled(targets, seed)} == {1.0}


@settings(max_examples=50)
@given(weights=WEIGHTS, seed=st.integers(0, 1000))
def test_copies_are_the_weight_rounded_down_or_up(weights, seed):
    targets = targets_of(*weights)
    training = oversampled(targets, seed)
    copies = Counter(target.question_id for target in training)
    for target in targets:
        assert math.floor(target.weight) <= copies[target.question_id] <= math.ceil(target.weight)
    for severity in Severity:
        mass = sum(t.weight for t in targets if t.severity is severity)
        assert abs(sum(t.severity is severity for t in training) - mass) < 1 + 1e-9


def test_the_expected_number_of_copies_is_the_weight():
    """Over 1000 seeds, to four standard errors of a coin."""
    weights = (0.25, 0.7, 1.5, 2.9, 3.0)
    targets = targets_of(*weights, severities=(1,))
    seeds = 1000
    counts = Counter(t.question_id for seed in range(seeds) for t in oversampled(targets, seed))
    means = [counts[f"q{n}"] / seeds for n in range(len(weights))]
    np.testing.assert_allclose(means, weights, atol=4 * 0.5 / math.sqrt(seeds))
    assert means[-1] == 3.0


def test_copies_keep_their_place_and_everything_else():
    targets = targets_of(2, 1)
    one, two, three = oversampled(targets, 0)
    assert one == two == replace(targets[0], weight=1.0)
    assert three == targets[1]


@pytest.mark.parametrize("scheme", [*SEVERITY_WEIGHTS, (0.5, 1.5, 2.25, 7.0)])
@pytest.mark.parametrize("share", [None, 0.2])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_check_is_truthful_for_every_combination(scheme, share, sampled):
    """It passes what is right, and sees one example too many, too few, or at another weight."""
    weights = RepairConfig(severity_weights=scheme).weights
    severities = (1, 4, 2, 4, 3, 3, 1)
    targets = targets_of(*(weights[s - 1] for s in severities), severities=severities)
    targets += [Target(f"r{n}", "distill", "A.") for n in range(3)]
    level = weight_level([target.weight for target in targets], share)
    targets = capped(targets, level)
    training = oversampled(targets, 5) if sampled else targets
    check_weighting(weight_report(targets, training), weights, level, sampled)
    wrong = [training[:-1], [*training[:-1], replace(training[-1], weight=3.0)]]
    wrong.append([*training, *training[:2]])
    for found in wrong:
        with pytest.raises(WeightingHadNoEffect):
            if sampled:
                check_copies(targets, found)
            check_weighting(weight_report(targets, found), weights, level, sampled)


def test_lost_copies_are_named():
    targets = targets_of(1, 4)
    training = oversampled(targets, 0)
    check_copies(targets, training)
    merged = list(dict.fromkeys(t.question_id for t in training))
    assert merged == ["q0", "q1"]
    with pytest.raises(WeightingHadNoEffect, match=r"q1 is 1 times .* its weight is 4"):
        check_copies(targets, training[:2])
    with pytest.raises(WeightingHadNoEffect, match=r"q1 .* has the weight 2"):
        check_copies(targets, [*training[:-1], replace(training[-1], weight=2.0)])
    with pytest.raises(WeightingHadNoEffect, match="no copy of any"):
        check_copies(targets, [])


CASES = (1, 4, 2, 4, 3, 3, 1)


def at_mass(scheme, mass, replayed=5, severities=CASES):
    """A repair set of these severities, whose weights were scaled to a mass."""
    weights = RepairConfig(severity_weights=scheme).weights
    targets = targets_of(*(weights[s - 1] for s in severities), severities=severities)
    targets += [Target(f"r{n}", "distill", "A.") for n in range(replayed)]
    return scaled(targets, mass_factor(targets, mass))


def weights_at(scheme, mass, replayed=5):
    return [target.weight for target in at_mass(scheme, mass, replayed)]


@pytest.mark.parametrize("scheme", [*SEVERITY_WEIGHTS, (0.5, 1.5, 2.25, 7.0)])
@pytest.mark.parametrize(("replayed", "total"), [(5, 10.0), (0, 14.0)])
def test_every_scheme_has_the_same_mass_and_its_own_proportions(scheme, replayed, total):
    """2 times the five replayed ones; without any, 2 times the seven repairs."""
    found = weights_at(scheme, 2.0, replayed)
    assert math.fsum(found[: len(CASES)]) == pytest.approx(total, rel=1e-12)
    assert found[len(CASES) :] == [1.0] * replayed
    configured = RepairConfig(severity_weights=scheme).weights
    proportions = [configured[severity - 1] / configured[0] for severity in CASES]
    assert [weight / found[0] for weight in found[: len(CASES)]] == pytest.approx(proportions)


@given(constant=st.floats(1e-3, 1e3), mass=st.floats(0.01, 100.0))
def test_a_common_factor_of_the_weights_changes_nothing_at_a_mass(constant, mass):
    linear = tuple(constant * weight for weight in (1, 2, 3, 4))
    for scheme, named in (((constant,) * 4, "uniform"), (linear, "linear")):
        np.testing.assert_allclose(weights_at(scheme, mass), weights_at(named, mass), rtol=1e-12)


def test_without_a_mass_no_weight_changes():
    for weighted in (weights_at("quadratic", None), weights_at("quadratic", None, replayed=0)):
        assert weighted[: len(CASES)] == [1, 16, 4, 16, 9, 9, 1]
    replay = [Target("r", "distill", "A.")]
    assert mass_factor(replay, 2.0) == 1.0 == mass_factor([], 2.0), "there is nothing to scale"


@pytest.mark.parametrize("scheme", [*SEVERITY_WEIGHTS, (0.5, 1.5, 2.25, 7.0)])
@pytest.mark.parametrize("replayed", [0, 5])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_check_knows_the_mass_from_the_counts(scheme, replayed, sampled):
    """It passes what was scaled, and sees the wrong mass, no mass, and a weight that is lost."""
    weights, targets = RepairConfig(severity_weights=scheme).weights, at_mass(scheme, 7.0, replayed)

    def check(targets, mass):
        training = oversampled(targets, 5) if sampled else targets
        if sampled:
            check_copies(targets, training)
        check_weighting(weight_report(targets, training), weights, math.inf, sampled, mass)

    check(targets, 7.0)
    for wrong in (5.0, None):
        with pytest.raises(WeightingHadNoEffect):
            check(targets, wrong)
    with pytest.raises(WeightingHadNoEffect):
        check([replace(target, weight=1.0) for target in targets], 7.0)
