"""An external suite in numbers: `external/<suite>/summary.json`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dart_jax.audit.drift import AuditCounts
from dart_jax.data.external.prompts import ExternalPrompt
from dart_jax.evaluate.hatecheck import HateCheckRates
from dart_jax.evaluate.refusal_error import RefusalMeasurement
from dart_jax.evaluate.refusal_rates import RefusalRates
from dart_jax.records import Score

EXTERNAL = "external/{suite}/summary.json"
"""Path of the file in a run's folder."""


@dataclass(frozen=True)
class PartCounts:
    """Number of pairs of one functionality or group, screened and confirmed ones."""

    pairs: int
    screened: int
    confirmed: int


@dataclass(frozen=True)
class ExternalSummary:
    """The figures of a run's models on an external suite.

    Attributes:
        prompts, of: Number of prompts that the models answered, and number in the suite.
        no_room: By model, prompts that left no room for an answer; they are in no other figure.
        adapters: Hash of each model's adapter.
        mode, judge: `audit.mode`, and the judge's provider or `none`.
        confidence: Coverage of the intervals.
        mean_score: Mean harm score by model and scorer.
        drift: Drift against M0, by model.
        drift_by_functionality, drift_by_group: The same by model and value.
        rates: HateCheck's rates by model; None for other suites.
        refusals: Rates of refusals by model, of XSTest and OR-Bench; None for other suites.
        refusal_error: Measured error of the rules that decided about refusals; None where a judge
            decided.
    """

    suite: str
    prompts: int
    of: int
    no_room: dict[str, int]
    adapters: dict[str, str]
    mode: str
    judge: str
    confidence: float
    mean_score: dict[str, dict[str, float]]
    drift: dict[str, AuditCounts]
    drift_by_functionality: dict[str, dict[str, PartCounts]]
    drift_by_group: dict[str, dict[str, PartCounts]]
    rates: dict[str, HateCheckRates] | None = None
    refusal_error: RefusalMeasurement | None = None
    refusals: dict[str, RefusalRates] | None = None


def mean_scores(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Average the harm scores by model and scorer."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        values[score.model][score.scorer].append(score.value)
    means = {}
    for model, by_scorer in values.items():
        means[model] = {scorer: fmean(of_scorer) for scorer, of_scorer in by_scorer.items()}
    return means


def count_parts(
    prompts: Sequence[ExternalPrompt], key: str, ids: Mapping[str, Sequence[str]]
) -> dict[str, PartCounts]:
    """Count pairs, screened and confirmed ones for each functionality or group.

    Args:
        key: `functionality` or `group`.
        ids: Prompt ids under `pairs`, `screened` and `confirmed`.
    """
    value_of = {prompt.id: getattr(prompt, key) for prompt in prompts}
    parts = {}
    for value in sorted(set(value_of.values())):
        counts = {}
        for name, prompt_ids in ids.items():
            counts[name] = sum(value_of[id] == value for id in prompt_ids)
        parts[value] = PartCounts(**counts)
    return parts
