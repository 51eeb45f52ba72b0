"""Compute the rows of a sweep's tables: one model's figures over the seeds, and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dart_jax.evaluate.models import (
    BY_EVALUATOR,
    COMPARED,
    METRICS,
    POSSIBLE,
    SEVERITIES,
    strength_of,
)
from dart_jax.evaluate.over_seeds import OverSeeds, difference_by_seed, over_seeds
from dart_jax.evaluate.summary import RunSummary
from dart_jax.evaluate.sweep_metrics import evaluators_of, metric_of
from dart_jax.records import digest


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
        evaluators: Figures of BY_EVALUATOR over the seeds, by the evaluator's name; empty where no
            run has an evaluator beside the audit.
    """

    name: str
    model: str
    variants: list[str]
    metrics: dict[str, OverSeeds]
    weights: dict[str, float] = field(default_factory=dict)
    evaluators: dict[str, dict[str, OverSeeds]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepDifferences:
    """Differences of each row from the row named `to`, seed by seed, in the metrics of COMPARED."""

    to: str
    rows: list[SweepRow]


def rows_of(
    results: Sequence[Result], variants: Sequence[str], confidence: float
) -> list[SweepRow]:
    """Compute all rows: of the models that variants share, then of each variant's M_DART.

    Args:
        variants: Those that have a result, in the order of the table.
        confidence: Coverage of the intervals.
    """
    rows = []
    titles = {"M0": "M0", "M_int": "distill only"}
    titles |= {point.model: point.model for r in results for point in r.summary.frontier}
    for model, title in titles.items():
        groups = _same_model(results, _with_model(results, variants, model), model)
        for group in groups:
            name = title if len(groups) == 1 else f"{title} ({_listed(group)})"
            rows.append(_row(name, model, group, results, confidence))

    for variant in variants:
        rows.append(_row(variant, "M_DART", [variant], results, confidence))
    return rows


def differences_of(rows: Sequence[SweepRow], first: str, confidence: float) -> SweepDifferences:
    """Subtract the first variant's M_DART from every other trained model, seed by seed."""
    reference = row_of_variant(rows, "M_DART", first)
    compared = []
    for row in rows:
        if row.model == "M0" or row is reference:
            continue

        metrics = {}
        for metric in COMPARED:
            values = (row.metrics[metric], reference.metrics[metric])
            metrics[metric] = difference_by_seed(*values, confidence, POSSIBLE[metric])

        evaluators = {}
        for by, figures in row.evaluators.items():
            if by in reference.evaluators:
                than = reference.evaluators[by]
                evaluators[by] = _evaluator_differences(figures, than, confidence)
        compared.append(SweepRow(row.name, row.model, row.variants, metrics, evaluators=evaluators))

    return SweepDifferences(reference.name, compared)


def row_of_variant(rows: Sequence[SweepRow], model: str, variant: str) -> SweepRow | None:
    """Find the row of a variant's model; None where no run of the variant is done."""
    for row in rows:
        if row.model == model and variant in row.variants:
            return row
    return None


def frontier_strength(row: SweepRow) -> float | None:
    """Return the strength of M_int's adapter in a row's model: 0 for M0; None for M_DART."""
    if row.model == "M0":
        return 0.0
    adapter, strength = strength_of(row.model)
    return strength if adapter == "M_int" else None


def frontier_rows(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """Order the rows of the variants that have a frontier by strength, with M_DART last."""
    with_frontier: set[str] = set()
    for row in rows:
        if "@" in row.model:
            with_frontier |= set(row.variants)

    chosen = [row for row in rows if with_frontier & set(row.variants)]
    last = math.inf
    return sorted(chosen, key=lambda row: last if row.model == "M_DART" else frontier_strength(row))


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
        # Not their intervals: a later version may compute those by another rule.
        figures = [metric_of(result.summary, model, metric) for metric in METRICS]
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
    of_row = sorted((r for r in results if r.variant in variants), key=lambda result: result.seed)
    # The variants of a row agree on every seed, so that any one of them stands for all.
    summaries = {result.seed: result.summary for result in of_row}
    metrics = {}
    for metric in METRICS:
        values = {str(seed): metric_of(each, model, metric) for seed, each in summaries.items()}
        metrics[metric] = over_seeds(values, confidence, POSSIBLE[metric])

    weights = _mean_weights(list(summaries.values())) if model == "M_DART" else {}
    evaluators = _evaluators_over_seeds(of_row, model, confidence)
    return SweepRow(name, model, variants, metrics, weights, evaluators)


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


def _evaluators_over_seeds(
    results: Sequence[Result], model: str, confidence: float
) -> dict[str, dict[str, OverSeeds]]:
    values: dict[str, dict[str, dict[str, float | None]]] = {}
    # All results, since the variants of a row may share M_int, and one alone have the evaluator.
    for result in results:
        for by, figures in evaluators_of(result.summary, model).items():
            of_evaluator = values.setdefault(by, {figure: {} for figure in BY_EVALUATOR})
            for figure, value in figures.items():
                of_evaluator[figure][str(result.seed)] = value

    evaluators: dict[str, dict[str, OverSeeds]] = {}
    for by, of_evaluator in values.items():
        evaluators[by] = {}
        for figure, by_seed in of_evaluator.items():
            evaluators[by][figure] = over_seeds(by_seed, confidence, BY_EVALUATOR[figure])
    return evaluators


def _evaluator_differences(
    of: Mapping[str, OverSeeds], than: Mapping[str, OverSeeds], confidence: float
) -> dict[str, OverSeeds]:
    differences = {}
    for figure, possible in BY_EVALUATOR.items():
        differences[figure] = difference_by_seed(of[figure], than[figure], confidence, possible)
    return differences
