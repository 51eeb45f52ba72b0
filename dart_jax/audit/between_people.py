"""Agreement of people with each other about audited pairs: Cohen's kappa, Krippendorff's alpha."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.records import DriftType, Severity

TYPES = tuple(DriftType)
SEVERITIES = tuple(Severity)


@dataclass(frozen=True)
class PeoplePair:
    """Cohen's kappa of two people on the items that both answered; None where not defined."""

    annotators: list[str]
    items: int
    drift: float | None
    type: float | None
    severity: float | None


@dataclass(frozen=True)
class BetweenPeople:
    """Agreement of people with each other, on the sample as it is and unweighted.

    Drift and type are nominal; severity is ordinal for alpha and has quadratic weights for kappa.

    Attributes:
        items: Number of items that more than one person answered.
        alpha: Krippendorff's alpha by `drift`, `type` and `severity`; None where not defined.
    """

    items: int
    alpha: dict[str, float | None]
    pairs: list[PeoplePair]


def person_codes(keyed: KeyedItem, annotation: Annotation) -> tuple[int, int]:
    """Encode a person's answer: drift where the candidate is the worse text, else no drift."""
    if annotation.worse != keyed.candidate:
        return 0, 0
    return drift_codes(annotation.type, annotation.severity)


def drift_codes(type: DriftType | None, severity: Severity | None) -> tuple[int, int]:
    """Encode type and severity: 0 for no drift, else 1 + the index in TYPES or SEVERITIES."""
    if type is None:
        return 0, 0
    return 1 + TYPES.index(type), 1 + SEVERITIES.index(severity)


def between_annotators(
    key: Sequence[KeyedItem], annotations: Sequence[Annotation]
) -> BetweenPeople:
    """Compute Krippendorff's alpha over all people and Cohen's kappa of each two of them.

    Each figure is over the items that its people share.
    """
    keyed_of = {keyed.item: keyed for keyed in key}
    names = sorted({annotation.annotator for annotation in annotations})
    items = sorted({annotation.item for annotation in annotations})

    # Codes of type and severity, [annotator, item] each; NaN where somebody left an item out.
    answered = np.full((2, len(names), len(items)), np.nan)

    for annotation in annotations:
        row, column = names.index(annotation.annotator), items.index(annotation.item)
        answered[:, row, column] = person_codes(keyed_of[annotation.item], annotation)

    types, severities = answered
    # NaN > 0 is False: an item that somebody left out would count as no drift.
    drift = np.where(np.isnan(types), np.nan, types > 0)
    measures = {
        "drift": (drift, range(2), "nominal", None),
        "type": (types, range(4), "nominal", None),
        "severity": (severities, range(5), "ordinal", "quadratic"),
    }

    pairs = []
    for first, second in itertools.combinations(range(len(names)), 2):
        common = np.isfinite(types[[first, second]]).all(axis=0)
        kappas = {}
        for name, (table, labels, _, weights) in measures.items():
            columns = table[first, common], table[second, common]
            kappas[name] = _none(cohens_kappa(*columns, labels, None, weights))
        pairs.append(PeoplePair([names[first], names[second]], int(common.sum()), **kappas))

    shared = np.isfinite(types).sum(axis=0) > 1
    alpha = {}
    for name, (table, labels, level, _) in measures.items():
        alpha[name] = _none(_alpha(table[:, shared], labels, level))

    return BetweenPeople(int(shared.sum()), alpha, pairs)


def _alpha(table: Float[np.ndarray, "annotators items"], labels: range, level: str) -> float:
    import krippendorff

    # Of one value the library divides 0 by 0; of no item that two people share it raises.
    if len(np.unique(table[np.isfinite(table)])) < 2:
        return math.nan
    return float(
        krippendorff.alpha(
            reliability_data=table, value_domain=list(labels), level_of_measurement=level
        )
    )


def _none(value: float) -> float | None:
    """Turn NaN, which JSON has not, into None."""
    return None if math.isnan(value) else value


def cohens_kappa(
    first: np.ndarray,
    second: np.ndarray,
    labels: Sequence[int],
    weight: np.ndarray | None = None,
    weights: str | None = None,
) -> float:
    """Compute Cohen's kappa; NaN where one label is all there is, on which chance agrees as well.

    Args:
        labels: All codes that may occur, consecutive.
        weight: Of each row; None counts rows alike.
        weights: How disagreements weigh: None for alike, or `quadratic` for ordered codes.
    """
    # By hand: sklearn's checks of its arguments take 20 ms for every resample.
    if not len(first) or len({*first.tolist(), *second.tolist()}) < 2:
        return math.nan

    size, lowest = len(labels), int(labels[0])
    cells = (first.astype(int) - lowest) * size + second.astype(int) - lowest
    table = np.bincount(cells, weight, minlength=size**2).reshape(size, size)
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()

    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    cost = distance**2 if weights == "quadratic" else distance > 0

    return float(1 - (cost * table).sum() / (cost * by_chance).sum())
