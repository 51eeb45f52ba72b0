"""Scale or cap the weights of a repair set, or turn them into copies of the examples.

With the loss's default normaliser, k copies of an example at weight 1 are the same as the example
at weight k. The authors' release meant to oversample, and undid it by a later de-duplication;
`check_copies` counts the copies.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dart_jax.records import Target
from dart_jax.teach.repair import WeightingHadNoEffect


def mass_factor(targets: Sequence[Target], mass: float | None) -> float:
    """Find the factor that gives the repairs `mass` times the weight of the replayed targets.

    Where nothing is replayed, it gives them `mass` on average. None leaves them as they are: 1.

    Args:
        targets: The repair set, without drifted rationales.
        mass: `repair.mass`.
    """
    repairs = [target.weight for target in targets if target.stage == "repair"]
    if mass is None or not repairs:
        return 1.0
    replayed = math.fsum(target.weight for target in targets if target.stage != "repair")
    return mass * (replayed or len(repairs)) / math.fsum(repairs)


def scaled(targets: Sequence[Target], factor: float) -> list[Target]:
    """Multiply the repairs' weights by a factor; replayed targets keep theirs."""
    found = []
    for target in targets:
        weight = target.weight * factor if target.stage == "repair" else target.weight
        found.append(replace(target, weight=weight))
    return found


def weight_level(weights: Sequence[float], share: float | None) -> float:
    """Find the level to cut weights to so that none exceeds `share` of their sum; inf cuts none.

    It is the highest such level; weights below it stay unchanged. Fewer than 1/share weights exceed
    the share whatever they are: the level is then the smallest of them, so that all become equal.

    >>> weight_level([1.0, 1.0, 1.0, 1.0, 4.0], 0.25)  # 4/3 is a quarter of 4 + 4/3
    1.3333333333333333
    """
    if share is None or not weights or max(weights) <= share * math.fsum(weights):
        return math.inf

    # With the `cut` heaviest weights at one level L: L = share * (cut * L + sum of the others).
    ordered = sorted(weights, reverse=True)
    for cut in range(1, len(ordered)):
        # Guards the division from rounding: in exact numbers an earlier turn has returned.
        if cut * share >= 1:
            break
        level = share * math.fsum(ordered[cut:]) / (1 - cut * share)
        if ordered[cut] <= level:
            return level

    return ordered[-1]


def capped(targets: Sequence[Target], level: float) -> list[Target]:
    """Cut the targets' weights to `level`."""
    return [replace(target, weight=min(target.weight, level)) for target in targets]


def oversampled(targets: Sequence[Target], seed: int) -> list[Target]:
    """Repeat each target as often as its weight says, at weight 1 and in place.

    A whole weight is that number of copies. The remaining fractions are drawn, severity by
    severity, by systematic sampling: they are laid end to end under a comb whose teeth are 1 apart
    and whose start is random, and a target under a tooth gets one more copy. So the expected number
    of copies is the weight, a target has its weight rounded down or up, and the copies of a
    severity miss its weight mass by less than 1. A target of weight below 1 may get none. Targets
    of two stages with the same severities and weights in the same order get the same copies.
    """
    rng = np.random.default_rng(seed)
    # Drawn for every severity, so that one that is missing does not change the draws of others.
    first_tooth = {severity: rng.random() for severity in (None, 1, 2, 3, 4)}

    end: dict[tuple[str, int | None], float] = defaultdict(float)
    copies = []
    for target in targets:
        fraction, whole = math.modf(target.weight)
        # Each stage lies under the comb by itself: a drifted rationale is copied as its repair is.
        key = (target.stage, target.severity)
        start = end[key]
        end[key] += fraction

        tooth = first_tooth[target.severity]
        # Number of teeth from the start of the fraction up to, and without, its end.
        drawn = math.ceil(end[key] - tooth) - math.ceil(start - tooth)
        copies += [replace(target, weight=1.0)] * (int(whole) + drawn)

    return copies


def check_copies(targets: Sequence[Target], training: Sequence[Target]) -> None:
    """Raise unless every target is in the training set as often as its weight says, at weight 1.

    Raises:
        WeightingHadNoEffect: A question has too many or too few copies, or a copy has a weight; the
            message names it. Or there are targets, but no copy at all.
    """
    if targets and not training:
        raise WeightingHadNoEffect(
            "oversampling drew no copy of any repair target: their weights are far below 1; raise "
            "repair.severity_weights or repair.mass, or set repair.weighting loss"
        )

    weights_of: dict[tuple, list[float]] = defaultdict(list)
    for target in targets:
        weights_of[_key(target)].append(target.weight)

    # Targets of one question, stage and severity share a key: their copies are counted together.
    copies_of = Counter(map(_key, training))
    for key, weights in weights_of.items():
        least = sum(map(math.floor, weights))
        most = sum(map(math.ceil, weights))
        if not least <= copies_of[key] <= most:
            raise WeightingHadNoEffect(
                f"{key[0]} is {copies_of[key]} times in the oversampled repair set; its weight is "
                f"{math.fsum(weights):g}"
            )

    for target in training:
        if target.weight != 1.0 or _key(target) not in weights_of:
            raise WeightingHadNoEffect(
                f"{target.question_id} in the oversampled repair set has the weight "
                f"{target.weight:g}, or is no copy of a target"
            )


def _key(target: Target) -> tuple:
    return target.question_id, target.stage, target.severity
