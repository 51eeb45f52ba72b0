"""Agreement of graders of refusals with people: the rules and, of a run, its judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dart_jax.evaluate.bootstrap import percentiles
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import estimate
from dart_jax.evaluate.refusal_error import RefusalError, RefusalMeasurement
from dart_jax.summaries import Estimate

REFUSAL_AGREEMENT = "audit/refusals.json"
"""Path of the file in a run's folder."""


@dataclass(frozen=True)
class GraderAgreement:
    """Agreement of one grader with people's labels on the answers of one file.

    Attributes:
        file: Name of the file.
        grader: `rules`, or the judge's provider and model.
        failed: Number of answers that got no grade; in no figure.
        error: Precision, recall and F1 of full refusals, and the confusion table.
        kappa: Cohen's kappa over full, partial and none.
    """

    file: str
    grader: str
    failed: int
    error: RefusalError
    kappa: Estimate


@dataclass(frozen=True)
class RefusalAgreement:
    """All graders on all files; `confidence` is the coverage of the intervals."""

    confidence: float
    graders: list[GraderAgreement]


def grader_agreement(
    file: str,
    grader: str,
    error: RefusalError,
    config: EvaluateConfig,
    failed: int = 0,
    seed: int = 0,
) -> GraderAgreement:
    """Add kappa to a grader's measured error.

    Args:
        error: Over the answers that got a grade.
        config: Number of resamples and coverage of the interval.
        failed: Number of further answers, which got none.
        seed: Seed of the resampling.
    """
    return GraderAgreement(file, grader, failed, error, _kappa(error, config, seed))


def rules_agreement(measured: RefusalMeasurement, config: EvaluateConfig) -> list[GraderAgreement]:
    """Add kappa to the measured error of the rules on each file."""
    return [grader_agreement(file.name, "rules", file.error, config) for file in measured.files]


def _kappa(error: RefusalError, config: EvaluateConfig, seed: int) -> Estimate:
    """Estimate kappa from the confusion table, with a percentile bootstrap over answers."""
    table = np.array([list(row.values()) for row in error.confusion.values()])
    [value] = _kappas(table[None])
    if np.isnan(value):
        return Estimate(None)

    # Answers drawn again with replacement are counts drawn from a multinomial distribution.
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(error.n, table.ravel() / error.n, config.bootstrap_samples)
    kappas = _kappas(drawn.reshape(-1, *table.shape))
    return estimate(float(value), percentiles(kappas[~np.isnan(kappas)], config.confidence))


def _kappas(tables: Int[np.ndarray, "N K K"]) -> Float[np.ndarray, " N"]:
    """Compute Cohen's kappa of each table of counts; nan where chance agrees as well."""
    total = tables.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        observed = np.trace(tables, axis1=1, axis2=2) / total
        by_chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2
        return (observed - by_chance) / (1 - by_chance)
