"""Sensitivity and specificity of the audit, by people's annotations of a weighted sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class ErrorRates:
    """The audit's error on the pairs on which it has a verdict, taken as if people were right.

    Attributes:
        sensitivity: Share of the pairs with drift that the audit confirms, its recall.
        specificity: Share of the pairs without drift on which it confirms none.
        positives, negatives: Effective number of annotated pairs with drift, and without: as many
            as would know as much if they all weighed the same [Kish 1965].
    """

    sensitivity: float
    specificity: float
    positives: float
    negatives: float


def error_rates(
    item: Int[np.ndarray, " rows"],
    by_person: Bool[np.ndarray, " rows"],
    by_audit: Bool[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"],
) -> ErrorRates | None:
    """Measure the audit's error; None where people saw nothing but drift, or no drift at all.

    Args:
        item: Item of each answer; answers of several people to one item count once together.
        by_person, by_audit: Whether the person, and the audit, sees drift.
        weight: Number of pairs that the answer stands for.
    """
    if not by_person.any() or by_person.all():
        return None

    drift, none = weight * by_person, weight * ~by_person
    return ErrorRates(
        sensitivity=float((drift * by_audit).sum() / drift.sum()),
        specificity=float((none * ~by_audit).sum() / none.sum()),
        positives=effective_size(item, drift),
        negatives=effective_size(item, none),
    )


def effective_size(item: Int[np.ndarray, " rows"], weight: Float[np.ndarray, " rows"]) -> float:
    """Number of equally heavy items that would know as much as the weighted ones; 0 of none."""
    by_item = np.bincount(item, weights=weight)
    squares = (by_item**2).sum()
    return float(by_item.sum() ** 2 / squares) if squares > 0 else 0.0
