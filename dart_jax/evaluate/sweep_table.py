"""The numbers of a sweep: mean and interval over seeds, and differences paired by seed.

Seeds of one variant share the questions: an interval over seeds is about the noise of training and
decoding, and not about another sample of questions (the bootstrap intervals of a run are).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from dart_jax.evaluate.metrics import RATES
from dart_jax.evaluate.summary import RunSummary
from dart_jax.records import digest
from dart_jax.summaries import Estimate

METRICS = (*RATES, "drift", "drift_cases", "drift_reduction")
"""`drift`: confirmed cases as a share of the test pairs; M0 has none."""

COMPARED = ("accuracy", "drift")
"""Metrics whose differences between variants are shown."""


@dataclass(frozen=True)
class Result:
    """A run that is done.

    Attributes:
        m_int: Hash of its adapter M_int.
    """

    variant: str
    seed: int
    summary: RunSummary
    m_int: str


@dataclass(frozen=True)
class OverSeeds:
    """One metric over seeds: mean and Student's t interval.

    Attributes:
        n: Seeds with a value.
        mean: None over no values.
        low, high: None for fewer than two values: one says nothing about its own spread.
        values: By seed; None where the metric is not defined.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    values: dict[str, float | None]

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mean, self.low, self.high)


@dataclass(frozen=True)
class SweepRow:
    """One model over the seeds.

    Attributes:
        model: M0, M_int or M_DART.
        variants: In which it is the same model with the same figures; `name` lists some of many.
        metrics: By name, see METRICS.
    """

    name: str
    model: str
    variants: list[str]
    metrics: dict[str, OverSeeds]


@dataclass(frozen=True)
class SweepDifferences:
    """Each row less the row named `to`, seed by seed; metrics of COMPARED."""

    to: str
    rows: list[SweepRow]


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error.

    Attributes:
        stage: The one that was at work; '' where none was.
    """

    variant: str
    seed: int
    stage: str
    error: str


@dataclass(frozen=True)
class SweepTable:
    """The numbers of a sweep, `table.json`.

    Attributes:
        runs, done: Number of runs, and of those that are done.
        measured_differently: Sections by which something is measured and in which variants differ.
        confidence: Coverage of the intervals.
        rows: M0, M_int (distill only) and each variant's M_DART; M0 and M_int have a row for each
            set of variants in which they are the same.
        shortcut: Accuracy of the shortcut baseline.
        protocol, split_by, judge, test_questions: What occurs among the runs.
        seconds: Of all stages of all runs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    seeds: list[int]
    runs: int
    done: int
    measured_differently: list[str]
    failures: list[Failure]
    confidence: float
    rows: list[SweepRow] = field(default_factory=list)
    differences: SweepDifferences | None = None
    shortcut: OverSeeds | None = None
    protocol: list[str] = field(default_factory=list)
    split_by: list[str] = field(default_factory=list)
    judge: list[str] = field(default_factory=list)
    test_questions: list[int] = field(default_factory=list)
    seconds: float = 0.0


def over_seeds(values: Mapping[str, float | None], confidence: float) -> OverSeeds:
    """Mean and t interval of the values that are defined."""
    from scipy.stats import t

    known = [value for value in values.values() if value is not None]
    n = len(known)
    mean = math.fsum(known) / n if n else None
    if n < 2:
        return OverSeeds(n, mean, None, None, dict(values))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * deviation / math.sqrt(n)
    return OverSeeds(n, mean, mean - half, mean + half, dict(values))


def sweep_table(
    results: Sequence[Result],
    variants: Sequence[str],
    confidence: float,
    *,
    name: str,
    seeds: Sequence[int],
    runs: int,
    measured_differently: Sequence[str] = (),
    failures: Sequence[Failure] = (),
) -> SweepTable:
    """Measure a sweep.

    Args:
        results: Of the runs that are done.
        variants: In the order of the table; the others are compared with the first that has runs.
        confidence: Coverage of the intervals.
        name, seeds, runs, measured_differently, failures: As of `SweepTable`.
    """
    about = {
        "name": name,
        "seeds": list(seeds),
        "runs": runs,
        "done": len(results),
        "measured_differently": list(measured_differently),
        "failures": list(failures),
        "confidence": confidence,
    }
    present = [variant for variant in variants if any(r.variant == variant for r in results)]
    if not present:
        return SweepTable(**about)

    rows = []
    for model, title in (("M0", "M0"), ("M_int", "distill only")):
        groups = _same_model(results, present, model)
        for group in groups:
            row_name = title if len(groups) == 1 else f"{title} ({_listed(group)})"
            rows.append(_row(row_name, model, group, results, confidence))

    for variant in present:
        rows.append(_row(variant, "M_DART", [variant], results, confidence))

    shortcut = {str(r.seed): r.summary.shortcut_baseline.accuracy for r in results}
    return SweepTable(
        **about,
        rows=rows,
        differences=_differences(rows, present[0], confidence),
        shortcut=over_seeds(shortcut, confidence),
        protocol=sorted({r.summary.protocol for r in results}),
        split_by=sorted({r.summary.split_by for r in results}),
        judge=sorted({r.summary.judge for r in results}),
        test_questions=sorted({r.summary.test_questions for r in results}),
        seconds=math.fsum(sum(r.summary.seconds.values()) for r in results),
    )


def _listed(names: Sequence[str]) -> str:
    """All of a few names, the first two of many: a legend has to hold them."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2} more"


def _same_model(results: Sequence[Result], variants: Sequence[str], model: str) -> list[list[str]]:
    """Variants grouped by equal model and figures on every seed that they share."""
    seen: dict[str, dict[int, str]] = {name: {} for name in variants}
    for r in results:
        drift = r.summary.drift.of(model)
        figures = [asdict(r.summary.models[model]), drift and asdict(drift)]
        seen[r.variant][r.seed] = digest([*figures, r.m_int if model == "M_int" else ""])

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
) -> SweepRow:
    summaries = {r.seed: r.summary for r in results if r.variant in variants}
    metrics = {}
    for metric in METRICS:
        values = {str(seed): _metric(summaries[seed], model, metric) for seed in sorted(summaries)}
        metrics[metric] = over_seeds(values, confidence)
    return SweepRow(name, model, variants, metrics)


def _metric(summary: RunSummary, model: str, metric: str) -> float | None:
    if metric in RATES:
        return getattr(summary.models[model], metric)
    if metric == "drift_reduction":
        return summary.drift.reduction if model == "M_DART" else None
    drift = summary.drift.of(model)
    if drift is None:
        return None
    if metric != "drift":
        return drift.confirmed
    return drift.confirmed / drift.pairs if drift.pairs else None


def _differences(rows: Sequence[SweepRow], first: str, confidence: float) -> SweepDifferences:
    """Every trained model less the first variant's M_DART, seed by seed."""
    [reference] = [row for row in rows if row.model == "M_DART" and row.variants == [first]]
    found = []
    for row in rows:
        if row.model == "M0" or row is reference:
            continue

        metrics = {}
        for metric in COMPARED:
            ours, theirs = row.metrics[metric].values, reference.metrics[metric].values
            differences: dict[str, float | None] = {}
            for seed, value in ours.items():
                if value is not None and theirs.get(seed) is not None:
                    differences[seed] = value - theirs[seed]
            metrics[metric] = over_seeds(differences, confidence)

        found.append(SweepRow(row.name, row.model, row.variants, metrics))

    return SweepDifferences(reference.name, found)
