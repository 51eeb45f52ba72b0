"""What becomes of the weights of a repair set: a cap on single ones, and oversampling.

With the loss's default normaliser, k copies of an example at weight 1 are the same as the example
at weight k. Oversampling is what the release meant to do, and lost to a later de-duplication;
`check_copies` counts.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dart_jax.records import Target
from dart_jax.teach.repair import WeightingHadNoEffect


def weight_level(weights: Sequence[float], share: float | None) -> float:
    """Where to cut weights so that none is more than `share` of their sum; inf: nowhere.

    The level is the highest at which this holds; weights below it stay what they are. Of fewer
    than 1/share weights each is more than the share, whatever they are: the level is then the
    smallest of them, so that all are alike.

    >>> weight_level([1.0, 1.0, 1.0, 1.0, 4.0], 0.25)  # 4/3 is a quarter of 4 + 4/3
    1.3333333333333333
    """
    if share is None or not weights or max(weights) <= share * math.fsum(weights):
        return math.inf
    ordered = sorted(weights, reverse=True)
    for cut in range(1, len(ordered)):
        if cut * share >= 1:
            break
        level = share * math.fsum(ordered[cut:]) / (1 - cut * share)
        if ordered[cut] <= level:
            return level
    return ordered[-1]


def capped(targets: Sequence[Target], level: float) -> list[Target]:
    """The targets, none heavier than `level`."""
    return [replace(target, weight=min(target.weight, level)) for target in targets]


def oversampled(targets: Sequence[Target], seed: int) -> list[Target]:
    """Each target as often as its weight says, at weight 1 and in place.

    A whole weight is that number of copies. The fractions that are left are drawn, severity by
    severity, by systematic sampling: they are laid end to end, and whoever lies under a point of
    a comb of width 1, put down at random, gets one more. So the expected number of copies is the
    weight, a target has its weight rounded down or up, and the copies of a severity miss its
    weight mass by less than 1. A target of weight below 1 may get none. Targets of two stages
    with the same severities and weights in the same order get the same copies.
    """
    rng = np.random.default_rng(seed)
    first = {severity: rng.random() for severity in (None, 1, 2, 3, 4)}

    end: dict[tuple[str, int | None], float] = defaultdict(float)
    copies = []
    for target in targets:
        part, whole = math.modf(target.weight)
        key, comb = (target.stage, target.severity), first[target.severity]
        start = end[key]
        end[key] += part
        more = math.ceil(end[key] - comb) - math.ceil(start - comb)
        copies += [replace(target, weight=1.0)] * (int(whole) + more)

    return copies


def check_copies(targets: Sequence[Target], training: Sequence[Target]) -> None:
    """Raise unless every target is in the training set as often as its weight says, at weight 1.

    Raises:
        WeightingHadNoEffect: With a question that has too many or too few copies, or a weight; or
            there are targets, and not one copy.
    """
    if targets and not training:
        raise WeightingHadNoEffect(
            "oversampling drew no copy of any repair target: their weights are far below 1; raise "
            "repair.severity_weights, or set repair.weighting loss"
        )

    wanted: dict[tuple, list[float]] = defaultdict(list)
    for target in targets:
        wanted[_key(target)].append(target.weight)

    found = Counter(map(_key, training))
    for key, weights in wanted.items():
        least, most = sum(map(math.floor, weights)), sum(map(math.ceil, weights))
        if not least <= found[key] <= most:
            raise WeightingHadNoEffect(
                f"{key[0]} is {found[key]} times in the oversampled repair set; its weight is "
                f"{math.fsum(weights):g}"
            )

    for target in training:
        if target.weight != 1.0 or _key(target) not in wanted:
            raise WeightingHadNoEffect(
                f"{target.question_id} in the oversampled repair set has the weight "
                f"{target.weight:g}, or is no copy of a target"
            )


def _key(target: Target) -> tuple:
    return target.question_id, target.stage, target.severity
