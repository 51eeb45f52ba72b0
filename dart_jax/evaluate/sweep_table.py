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

from dart_jax.audit.drift import reduction
from dart_jax.evaluate.expectations import Expectation, Tested, check_expectation
from dart_jax.evaluate.models import COMPARED, METRICS, POSSIBLE, RATES, SEVERITIES
from dart_jax.evaluate.over_seeds import OverSeeds, difference_by_seed, over_seeds
from dart_jax.evaluate.planted import PlantedCounts
from dart_jax.evaluate.summary import RunSummary
from dart_jax.records import Severity, digest
from dart_jax.summaries import Estimate


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
class SweepRow:
    """The metrics of one model over the seeds.

    Attributes:
        model: M0, M_int, M_DART, or one of a run's frontier.
        variants: Variants that share this model and its figures; `name` lists some of many.
        metrics: Metric over the seeds by name, see METRICS.
        weights: Mean loss weight of a repair target by severity, over the seeds that have one;
            empty for M0 and M_int.
    """

    name: str
    model: str
    variants: list[str]
    metrics: dict[str, OverSeeds]
    weights: dict[str, float] = field(default_factory=dict)


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
        expectations: What the sweep's file expected before it ran, with what was found.
        rows: Rows of M0, M_int (distill only), parts of M_int's adapter, and each variant's
            M_DART. All but the last have a row for each set of variants in which they are the same.
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
    expectations: list[Tested] = field(default_factory=list)
    shortcut: OverSeeds | None = None
    protocol: list[str] = field(default_factory=list)
    split_by: list[str] = field(default_factory=list)
    judge: list[str] = field(default_factory=list)
    tau: list[float] = field(default_factory=list)
    test_questions: list[int] = field(default_factory=list)
    seconds: float = 0.0
    planted: list[str] = field(default_factory=list)


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
    expectations: Sequence[Expectation] = (),
) -> SweepTable:
    """Measure a sweep.

    Args:
        results: The finished runs.
        variants: In the order of the table; the others are compared with the first that has runs.
        confidence: Coverage of the intervals.
        name, seeds, runs, measured_differently, failures: See `SweepTable`.
        expectations: Those of the sweep's file.
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
    titles = {"M0": "M0", "M_int": "distill only"}
    titles |= {point.model: point.model for r in results for point in r.summary.frontier}
    for model, title in titles.items():
        groups = _same_model(results, _with_model(results, present, model), model)
        for group in groups:
            row_name = title if len(groups) == 1 else f"{title} ({_listed(group)})"
            rows.append(_row(row_name, model, group, results, confidence))

    for variant in present:
        rows.append(_row(variant, "M_DART", [variant], results, confidence))

    # Seeds are texts, as the keys of JSON are: the table reads back as it was.
    shortcut = {str(r.seed): r.summary.shortcut_baseline.accuracy for r in results}
    summaries = [result.summary for result in results]

    return SweepTable(
        **about,
        rows=rows,
        differences=_differences(rows, present[0], confidence),
        expectations=[_tested(rows, each, confidence) for each in expectations],
        shortcut=over_seeds(shortcut, confidence, POSSIBLE["accuracy"]),
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


def _with_model(results: Sequence[Result], variants: Sequence[str], model: str) -> list[str]:
    """List the variants whose runs have a model: a frontier may be asked for in some only."""
    having = {r.variant for r in results if r.summary.has(model)}
    return [variant for variant in variants if variant in having]


def _same_model(results: Sequence[Result], variants: Sequence[str], model: str) -> list[list[str]]:
    """Group variants that have the same model and figures on every seed that they share."""
    digests: dict[str, dict[int, str]] = {name: {} for name in variants}
    for result in results:
        if result.variant not in digests:
            continue
        drift = result.summary.drift_of(model)
        figures = [asdict(result.summary.metrics_of(model)), drift and asdict(drift)]
        # Two trained models may have equal figures by chance; their hashes differ.
        adapter = "" if model == "M0" else result.m_int
        digests[result.variant][result.seed] = digest([*figures, adapter])

    groups: list[list[str]] = []
    for name in variants:
        for group in groups:
            # With every member: after failed runs two variants may share no seed with each other,
            # and agree with a third that has both.
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
    # The variants of a row agree on every seed, so that any one of them stands for all.
    summaries = {r.seed: r.summary for r in results if r.variant in variants}
    metrics = {}
    for metric in METRICS:
        values = {str(seed): _metric(summaries[seed], model, metric) for seed in sorted(summaries)}
        metrics[metric] = over_seeds(values, confidence, POSSIBLE[metric])

    weights = _mean_weights(list(summaries.values())) if model == "M_DART" else {}
    return SweepRow(name, model, variants, metrics, weights)


def _mean_weights(summaries: Sequence[RunSummary]) -> dict[str, float]:
    """Average the loss weight of one repair target, by severity."""
    weights = {}
    for severity in SEVERITIES:
        # Over targets and not over seeds: a seed of few repairs weighs less.
        repaired = [s.repair[severity] for s in summaries if severity in s.repair]
        examples = sum(each.examples for each in repaired)
        if examples:
            weights[severity] = math.fsum(each.weight_mass for each in repaired) / examples
    return weights


def _metric(summary: RunSummary, model: str, metric: str) -> float | None:
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

    faults = summary.planted_of(model)
    return None if faults is None else _planted_metric(summary, faults, model, metric)


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


def _differences(rows: Sequence[SweepRow], first: str, confidence: float) -> SweepDifferences:
    """Subtract the first variant's M_DART from every other trained model, seed by seed."""
    reference = _of_variant(rows, "M_DART", first)
    compared = []
    for row in rows:
        if row.model == "M0" or row is reference:
            continue

        metrics = {}
        for metric in COMPARED:
            values = (row.metrics[metric], reference.metrics[metric])
            metrics[metric] = difference_by_seed(*values, confidence, POSSIBLE[metric])
        compared.append(SweepRow(row.name, row.model, row.variants, metrics))

    return SweepDifferences(reference.name, compared)


def _tested(rows: Sequence[SweepRow], expectation: Expectation, confidence: float) -> Tested:
    """Test an expectation; a variant none of whose runs is done has no values."""
    of = _of_variant(rows, "M_DART", expectation.of)
    if expectation.than == "M_int":
        than = _of_variant(rows, "M_int", expectation.of)
    else:
        than = _of_variant(rows, "M_DART", expectation.than)

    values = [
        over_seeds({}, confidence) if row is None else row.metrics[expectation.metric]
        for row in (of, than)
    ]
    return check_expectation(expectation, *values, confidence)


def _of_variant(rows: Sequence[SweepRow], model: str, variant: str) -> SweepRow | None:
    for row in rows:
        if row.model == model and variant in row.variants:
            return row
    return None
