"""Read the figures of a sweep's tables from the summary of one run."""

from __future__ import annotations

from dart_jax.audit.drift import reduction
from dart_jax.evaluate.collateral import Collateral
from dart_jax.evaluate.evaluators import AUDIT
from dart_jax.evaluate.models import AUDITED, COLLATERAL, RATES
from dart_jax.evaluate.planted import PlantedCounts
from dart_jax.evaluate.summary import RunSummary
from dart_jax.records import Severity
from dart_jax.summaries import Estimate


def metric_of(summary: RunSummary, model: str, metric: str) -> float | None:
    """Return one of METRICS of a model; None where it is not defined or was not measured."""
    if metric in RATES:
        return getattr(summary.metrics_of(model), metric)

    if metric in ("forced_accuracy", "auroc"):
        measured: Estimate | None = getattr(summary.metrics_of(model), metric)
        return None if measured is None else measured.value

    if metric == "drift_reduction":
        is_later = model not in ("M0", "M_int")
        return reduction(summary.drift.M_int, summary.drift_of(model)) if is_later else None

    if metric in ("drift", "drift_cases"):
        return _drift(summary, model, metric)

    if metric in ("undrifted", *COLLATERAL):
        # M_DART's answers alone are compared with M_int's.
        found = summary.collateral if model == "M_DART" else None
        return None if found is None else _collateral(found, metric)

    faults = summary.planted_of(model)
    return None if faults is None else _planted_metric(summary, faults, model, metric)


def evaluators_of(summary: RunSummary, model: str) -> dict[str, dict[str, float | None]]:
    """Collect what evaluators beside the audit say of a model's drift.

    Returns:
        Figures by the evaluator's name, see BY_EVALUATOR; empty where the run has none, and for
        models that no evaluator sees.
    """
    if model not in AUDITED:
        return {}

    figures = {}
    for found in summary.drift_by:
        if found.kind != AUDIT:
            figures[found.by] = {
                "drift": found.change.rates[model].value,
                "reduction": found.change.reduction.value if model == "M_DART" else None,
                "kappa": found.agreement[model].kappa.value,
            }
    return figures


def _collateral(found: Collateral, metric: str) -> float | None:
    if metric == "undrifted":
        return found.not_drifted.n

    kind, _, figure = metric.partition("_")
    change = found.drifted if kind == "drifted" else found.not_drifted
    measured: Estimate | None = getattr(change, figure)
    return None if measured is None else measured.value


def _drift(summary: RunSummary, model: str, metric: str) -> float | None:
    drift = summary.drift_of(model)
    if drift is None:
        return None
    if metric == "drift_cases":
        return drift.confirmed
    return drift.confirmed / drift.pairs if drift.pairs else None


def _planted_metric(
    summary: RunSummary, faults: PlantedCounts, model: str, metric: str
) -> float | None:
    before = summary.planted.models["M_int"]
    is_later = model not in ("M0", "M_int")
    # Not always a severity: `harm` and `reduction` stand in its place, and nothing after `planted`.
    kind, _, severity = metric.partition("_")

    if kind == "left":
        faults_before = before.by_severity[severity]
        return faults.by_severity[severity] / faults_before if is_later and faults_before else None

    if severity == "reduction":
        return 1 - faults.drifted / before.drifted if is_later and before.drifted else None

    if not faults.n:
        return None
    if severity == "harm":
        numbers = (Severity[name.upper()] * count for name, count in faults.by_severity.items())
        return sum(numbers) / faults.n
    return (faults.by_severity[severity] if severity else faults.drifted) / faults.n
