"""The numbers of a run in one dictionary: `evaluation/summary.json`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dart_jax.audit.drift import reduction
from dart_jax.records import write_text

MODELS = ("M0", "M_int", "M_DART")
AUDITED = ("M_int", "M_DART")
SEVERITIES = ("minor", "moderate", "severe", "extreme")


def build_summary(
    *,
    models: Mapping[str, dict],
    drift: Mapping[str, dict],
    pool: dict,
    repair: Mapping[str, Mapping[str, float]],
    shortcut: Mapping,
    protocol: str,
    split_by: str,
    judge: str,
    cycles: Sequence[dict],
    rejects: Mapping[str, Mapping[str, Mapping[str, int]]],
    labels: Mapping[str, float | int | None] | None,
    seconds: Mapping[str, float],
    distill_only: bool = False,
    statistics: Mapping | None = None,
    policy: Mapping | None = None,
) -> dict:
    """Assemble the summary of a run; nothing is computed here but the drift reduction.

    Args:
        models: `metrics.model_metrics` of M0, M_int and M_DART on the test questions.
        drift: `audit.drift.summarise_drift` of M_int and M_DART against M0 on test questions.
        pool: The same of M_int on the drift pool, whence the repair cases come.
        repair: By severity name: `{"examples": count, "weight_mass": sum of example weights}`
            of the repair targets; empty where nothing was repaired.
        shortcut: `metrics.model_metrics` of the shortcut baseline on the same test questions; of
            no question where it could not be fitted.
        protocol: `heldout` or `transductive`, see `audit.config.AuditConfig`.
        split_by: `row` or `scenario`.
        judge: The judge's provider, `none` where the scorer alone decided.
        cycles: One row a cycle of audit and repair: `audited` (a model), `pool` (its
            `summarise_drift` there), `repairs` (targets), `model` (what the repair left), and that
            model's `test` metrics and `drift` on test questions.
        rejects: Number of rejected targets by stage, reason and benchmark.
        labels: `teach.labels.label_summary` of the training questions; None with gold labels.
        seconds: Wall-clock seconds by stage.
        distill_only: Whether there was to be no repair (`repair.epochs: 0`).
        statistics: See `evaluate.statistics`; None where no test question has a label.
        policy: See `evaluate.policy`; None says that the models were asked without it.

    Returns:
        A JSON-able dictionary. `m_dart_is_m_int` is true where there was nothing to repair:
        then M_DART is M_int itself.

    Raises:
        ValueError: Parts for other models than these, an unknown severity, or a number that is
            not finite.
    """
    _same_names("models", models, MODELS)
    _same_names("drift", drift, AUDITED)
    unknown = sorted(repair.keys() - set(SEVERITIES))
    if unknown:
        raise ValueError(f"repair: unknown severity {unknown[0]!r}; known: {', '.join(SEVERITIES)}")
    summary = {
        "protocol": protocol,
        "split_by": split_by,
        "judge": judge,
        "models": {name: models[name] for name in MODELS},
        "shortcut_baseline": dict(shortcut),
        "drift": {
            **{name: drift[name] for name in AUDITED},
            "reduction": reduction(drift["M_int"], drift["M_DART"]),
        },
        "drift_pool": pool,
        "repair": {name: dict(repair[name]) for name in SEVERITIES if name in repair},
        "cycles": list(cycles),
        "rejects": {stage: dict(reasons) for stage, reasons in rejects.items()},
        "labels": labels,
        "m_dart_is_m_int": not any(row["examples"] for row in repair.values()),
        "distill_only": distill_only,
        "seconds": dict(seconds),
        "statistics": statistics,
        "policy": policy,
    }
    json.dumps(summary, allow_nan=False)  # a nan here must not reach the file
    return summary


def write_summary(path: Path, summary: dict) -> None:
    """Write the summary as indented JSON, atomically."""
    write_text(path, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _same_names(what: str, parts: Mapping, expected: tuple[str, ...]) -> None:
    if set(parts) != set(expected):
        raise ValueError(f"{what}: expected {', '.join(expected)}, got {', '.join(sorted(parts))}")
