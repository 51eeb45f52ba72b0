"""The figures of a sweep: mean and interval over seeds, and differences paired by seed.

Seeds of one variant share the questions: an interval over seeds shows the noise of training and
decoding, not that of another sample of questions (which a run's bootstrap intervals show).
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
    """A finished run of the sweep.

    Attributes:
        m_int: Hash of the run's adapter M_int.
    """

    variant: str
    seed: int
    summary: RunSummary
    m_int: str


@dataclass(frozen=True)
class OverSeeds:
    """One metric over seeds: mean and Student's t interval.

    Attributes:
        n: Number of seeds with a value.
        mean: None without values.
        low, high: None for fewer than two values: a single one says nothing about the spread.
        values: Value by seed; None where the metric is not defined.
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
    """The metrics of one model over the seeds.

    Attributes:
        model: M0, M_int or M_DART.
        variants: Variants that share this model and its figures; `name` lists some of many.
        metrics: Metric over the seeds by name, see METRICS.
    """

    name: str
    model: str
    variants: list[str]
    metrics: dict[str, OverSeeds]


@dataclass(frozen=True)
class SweepDifferences:
    """Differences of each row from the row named `to`, seed by seed, in the metrics of COMPARED."""

    to: str
    rows: list[SweepRow]


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error.

    Attributes:
        stage: The stage that was running; '' where none was.
    """

    variant: str
    seed: int
    stage: str
    error: str


@dataclass(frozen=True)
class SweepTable:
    """The figures of a sweep, `table.json`.

    Attributes:
        runs, done: Number of runs, and of finished ones.
        measured_differently: Sections of the settings that decide how something is measured, and
            in which variants differ.
        confidence: Coverage of the intervals.
        rows: Rows of M0, M_int (distill only) and each variant's M_DART. M0 and M_int have a row
            for each set of variants in which they are the same.
        shortcut: Accuracy of the shortcut baseline.
        protocol, split_by, judge, tau, test_questions: The values that occur among the runs.
        seconds: Wall-clock seconds of all stages of all runs.
        planted: Variants that planted faults in their training targets.
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
    tau: list[float] = field(default_factory=list)
    test_questions: list[int] = field(default_factory=list)
    seconds: float = 0.0
    planted: list[str] = field(default_factory=list)


def over_seeds(values: Mapping[str, float | None], confidence: float) -> OverSeeds:
    """Compute mean and t interval of the values that are defined."""
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
        results: The finished runs.
        variants: In the order of the table; the others are compared with the first that has runs.
        confidence: Coverage of the intervals.
        name, seeds, runs, measured_differently, failures: See `SweepTable`.
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
    with_results = {result.variant for result in results}
    present = [variant for variant in variants if variant in with_results]
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
    summaries = [result.summary for result in results]

    return SweepTable(
        **about,
        rows=rows,
        differences=_differences(rows, present[0], confidence),
        shortcut=over_seeds(shortcut, confidence),
        protocol=sorted({summary.protocol for summary in summaries}),
        split_by=sorted({summary.split_by for summary in summaries}),
        judge=sorted({summary.judge for summary in summaries}),
        tau=sorted({summary.tau for summary in summaries}),
        test_questions=sorted({summary.test_questions for summary in summaries}),
        seconds=math.fsum(sum(summary.seconds.values()) for summary in summaries),
        planted=_planted(results, present),
    )


def _planted(results: Sequence[Result], variants: Sequence[str]) -> list[str]:
    planted = {result.variant for result in results if result.summary.planting is not None}
    return [variant for variant in variants if variant in planted]


def _listed(names: Sequence[str]) -> str:
    """List a few names in full, of many the first two: a legend has to hold them."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2} more"


def _same_model(results: Sequence[Result], variants: Sequence[str], model: str) -> list[list[str]]:
    """Group variants that have the same model and figures on every seed that they share."""
    digests: dict[str, dict[int, str]] = {name: {} for name in variants}
    for result in results:
        drift = result.summary.drift.of(model)
        figures = [asdict(result.summary.models[model]), drift and asdict(drift)]
        # Two trained models may have equal figures by chance; their hashes differ.
        adapter = result.m_int if model == "M_int" else ""
        digests[result.variant][result.seed] = digest([*figures, adapter])

    groups: list[list[str]] = []
    for name in variants:
        for group in groups:
            if all(_agree(digests[member], digests[name]) for member in group):
                group.append(name)
                break
        else:
            groups.append([name])

    return groups


def _agree(first: Mapping[int, str], second: Mapping[int, str]) -> bool:
    """Say whether two variants have the same digest on every seed that they share."""
    return all(first[seed] == second[seed] for seed in first.keys() & second.keys())


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
    """Subtract the first variant's M_DART from every other trained model, seed by seed."""
    [reference] = [row for row in rows if row.model == "M_DART" and row.variants == [first]]
    compared = []
    for row in rows:
        if row.model == "M0" or row is reference:
            continue

        metrics = {}
        for metric in COMPARED:
            reference_values = reference.metrics[metric].values
            differences: dict[str, float | None] = {}
            for seed, value in row.metrics[metric].values.items():
                if value is not None and reference_values.get(seed) is not None:
                    differences[seed] = value - reference_values[seed]
            metrics[metric] = over_seeds(differences, confidence)

        compared.append(SweepRow(row.name, row.model, row.variants, metrics))

    return SweepDifferences(reference.name, compared)
