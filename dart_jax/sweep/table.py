"""The numbers of a sweep: mean and interval over seeds, and differences paired by seed.

Seeds of one variant share the questions: an interval over seeds is about the noise of training and
decoding, and not about another sample of questions (the bootstrap intervals of a run are).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dart_jax.evaluate.metrics import RATES
from dart_jax.records import digest

METRICS = (*RATES, "drift", "drift_cases", "drift_reduction")
"""`drift`: confirmed cases as a share of the test pairs; None of it for M0."""

COMPARED = ("accuracy", "drift")


@dataclass(frozen=True)
class Result:
    """A run that is done.

    Attributes:
        summary: Its `evaluation/summary.json`.
        m_int: Hash of its adapter M_int.
    """

    variant: str
    seed: int
    summary: Mapping[str, Any]
    m_int: str


def interval(values: Sequence[float], confidence: float) -> dict[str, Any]:
    """Mean and Student's t interval.

    Returns:
        `n`, `mean` (None over no values), `low` and `high` (None for fewer than two values:
        one value says nothing about its own spread).
    """
    from scipy.stats import t

    n = len(values)
    if not n:
        return {"n": 0, "mean": None, "low": None, "high": None}
    mean = math.fsum(values) / n
    if n == 1:
        return {"n": 1, "mean": mean, "low": None, "high": None}
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * deviation / math.sqrt(n)
    return {"n": n, "mean": mean, "low": mean - half, "high": mean + half}


def _listed(names: Sequence[str]) -> str:
    """All of a few names, the first two of many: a legend has to hold them."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2} more"


def build_table(
    results: Sequence[Result], variants: Sequence[str], confidence: float
) -> dict[str, Any]:
    """Rows of M0, of M_int (distill only) and of each variant's M_DART.

    M0 and M_int have a row for each set of variants in which they are the same model with the
    same figures.

    Args:
        results: Of the runs that are done.
        variants: In the order of the table; the others are compared with the first that has runs.
        confidence: Coverage of the intervals.

    Returns:
        `rows`: `name`, `model`, `variants` (all of them, where the name lists some), and for each
        of `METRICS` an `interval` with `values` by seed; `differences`: `to` and such rows of
        `COMPARED`; `shortcut`; and what was measured.
    """
    present = [name for name in variants if any(r.variant == name for r in results)]
    if not present:
        return {"confidence": confidence, "rows": [], "differences": None, "shortcut": None}
    rows = []
    for model, title in (("M0", "M0"), ("M_int", "distill only")):
        groups = _same_model(results, present, model)
        for group in groups:
            name = title if len(groups) == 1 else f"{title} ({_listed(group)})"
            rows.append(_row(name, model, group, results, confidence))
    rows += [_row(name, "M_DART", [name], results, confidence) for name in present]
    reference = next(row for row in rows if row["variants"] == present[:1] and _trained(row))
    compared = [row for row in rows if row["model"] != "M0" and row is not reference]
    shortcut = {str(r.seed): r.summary["shortcut_baseline"]["accuracy"] for r in results}
    return {
        "confidence": confidence,
        "rows": rows,
        "differences": {
            "to": reference["name"],
            "rows": [_difference(row, reference, confidence) for row in compared],
        },
        "shortcut": {**interval(list(shortcut.values()), confidence), "values": shortcut},
        **{
            key: sorted({r.summary[key] for r in results})
            for key in ("protocol", "split_by", "judge")
        },
        "test_questions": sorted({r.summary["models"]["M0"]["n"] for r in results}),
        "seconds": math.fsum(sum(r.summary["seconds"].values()) for r in results),
    }


def _trained(row: Mapping[str, Any]) -> bool:
    return row["model"] == "M_DART"


def _same_model(results: Sequence[Result], variants: Sequence[str], model: str) -> list[list[str]]:
    """Variants grouped by equal model and figures on every seed that they share."""
    seen: dict[str, dict[int, str]] = {name: {} for name in variants}
    for r in results:
        same = [r.summary["models"][model], r.summary["drift"].get(model)]
        seen[r.variant][r.seed] = digest([*same, r.m_int if model == "M_int" else ""])
    groups: list[list[str]] = []
    for name in variants:
        for group in groups:
            others = [seen[other] for other in group]
            if all(o[s] == seen[name][s] for o in others for s in o.keys() & seen[name].keys()):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _row(
    name: str, model: str, variants: list[str], results: Sequence[Result], confidence: float
) -> dict[str, Any]:
    summaries = {r.seed: r.summary for r in results if r.variant in variants}
    metrics = {}
    for metric in METRICS:
        values = {str(s): _metric(summaries[s], model, metric) for s in sorted(summaries)}
        known = [value for value in values.values() if value is not None]
        metrics[metric] = {**interval(known, confidence), "values": values}
    return {"name": name, "model": model, "variants": variants, "metrics": metrics}


def _metric(summary: Mapping[str, Any], model: str, metric: str) -> float | None:
    if metric in RATES:
        return summary["models"][model][metric]
    drift = summary["drift"].get(model)
    if metric == "drift_reduction":
        return summary["drift"]["reduction"] if model == "M_DART" else None
    if drift is None:
        return None
    if metric != "drift":
        return drift["confirmed"]
    return drift["confirmed"] / drift["pairs"] if drift["pairs"] else None


def _difference(
    row: Mapping[str, Any], reference: Mapping[str, Any], confidence: float
) -> dict[str, Any]:
    """Row minus reference, seed by seed."""
    found = {}
    for metric in COMPARED:
        one, other = (r["metrics"][metric]["values"] for r in (row, reference))
        values = {
            seed: one[seed] - other[seed]
            for seed in one
            if one[seed] is not None and other.get(seed) is not None
        }
        found[metric] = {**interval(list(values.values()), confidence), "values": values}
    return {"name": row["name"], "metrics": found}


def to_json(table: Mapping[str, Any]) -> str:
    """Indented JSON; a nan is an error."""
    return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
