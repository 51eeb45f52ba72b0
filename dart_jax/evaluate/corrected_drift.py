"""Rates of drift corrected for the audit's error, as people's annotations measured it.

The audit misses drift and sees some that is none. Where people annotated a sample of the drift
pool, its sensitivity and specificity there say what rate among the test pairs would have let it
confirm as many as it did. That takes the audit to err alike on pool and test pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

from dart_jax.audit.agreement import Agreement
from dart_jax.audit.error_rates import ErrorRates
from dart_jax.evaluate.drift_change import DriftRate
from dart_jax.summaries import Estimate


def corrected_drift(
    rates: Mapping[str, DriftRate], agreement: Agreement | None
) -> dict[str, Estimate] | None:
    """Correct each model's rate of confirmed drift.

    Returns:
        Rate by model; None where the audit's error is not known: nobody annotated blindly, people
        saw drift everywhere or nowhere, or the audit is no better than chance.
    """
    # Pairs that people chose themselves, with the verdicts in view, are no sample.
    if agreement is None or agreement.source == "page_open" or agreement.error is None:
        return None
    error = agreement.error
    # The correction divides by this sum less 1; at 0 a verdict tells nothing of the pair.
    if error.sensitivity + error.specificity <= 1:
        return None

    corrected = {}
    for model, rate in rates.items():
        if rate.value is not None:
            corrected[model] = true_rate(
                rate.value, rate.effective_pairs, error, agreement.confidence
            )
    return corrected or None


def true_rate(observed: float, size: float, error: ErrorRates, confidence: float) -> Estimate:
    """Estimate the true rate behind an observed one, with an interval for all three errors.

    The value is Rogan and Gladen's, cut to [0, 1]:

        (observed + specificity - 1) / (sensitivity + specificity - 1)

    The interval is Lang and Reiczigel's, which allows for the sampling error of sensitivity and
    specificity too and holds for the small samples that people annotate.

    Args:
        observed: Share of pairs that the audit confirms.
        size: Number of pairs behind it, as far as they are independent.
        error: Sensitivity and specificity, together above 1.
        confidence: Coverage of the interval.

    Reference: Rogan and Gladen (1978), American Journal of Epidemiology 107, 71-76; Lang and
    Reiczigel (2014), Preventive Veterinary Medicine 113, 13-22.
    """
    youden = error.sensitivity + error.specificity - 1
    value = (observed + error.specificity - 1) / youden

    # Each share is drawn towards 1/2, by z^2 pairs or by two, as Agresti and Coull do.
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n, n_drift, n_none = size + z**2, error.positives + 2, error.negatives + 2
    share = (size * observed + z**2 / 2) / n
    sensitivity = (error.positives * error.sensitivity + 1) / n_drift
    specificity = (error.negatives * error.specificity + 1) / n_none

    # From here on with the adjusted shares: the interval does not lie evenly about the value.
    youden = sensitivity + specificity - 1
    if youden <= 0:  # so few annotated pairs that the audit may be no better than chance
        return Estimate(_cut(value), 0.0, 1.0)
    rate = (share + specificity - 1) / youden
    of_drift = sensitivity * (1 - sensitivity) / n_drift
    of_none = specificity * (1 - specificity) / n_none

    shift = 2 * z**2 * (rate * of_drift - (1 - rate) * of_none)
    variance = share * (1 - share) / n + rate**2 * of_drift + (1 - rate) ** 2 * of_none
    reach = z * variance**0.5 / youden
    return Estimate(_cut(value), _cut(rate + shift - reach), _cut(rate + shift + reach))


def _cut(rate: float) -> float:
    return float(min(1.0, max(0.0, rate)))
