"""Agreement of the audit's verdicts with people's, weighted back from the sample to all pairs.

A sampled pair counts for 1 / (its probability of being drawn and answered) pairs. Where several
people answered an item, each answer counts for its share: the figures are those against a person
picked at random. Intervals are percentile bootstraps that resample items within each stratum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.audit.between_people import (
    SEVERITIES,
    TYPES,
    BetweenPeople,
    between_annotators,
    cohens_kappa,
    drift_codes,
    person_codes,
)
from dart_jax.audit.error_rates import ErrorRates, effective_size, error_rates
from dart_jax.audit.sample_size import HALF_WIDTH, SampleNeed, sample_need
from dart_jax.records import Outcome, Verdict
from dart_jax.summaries import Estimate, read_json

ANNOTATION_METRICS = "audit/annotation_metrics.json"
"""Path of the file in a run's folder."""


@dataclass(frozen=True)
class _Answers:
    """People's answers beside the audit's, as one row for each answer.

    Codes are 0 for no drift, else 1 + the index in TYPES or SEVERITIES.

    Attributes:
        item: Index in `strata` of the answered item.
        weight: Number of pairs that the answer stands for.
        person_type, person_severity, audit_type, audit_severity: Codes.
        decided: Whether the audit reached a verdict, or did not screen the pair.
        strata: Stratum of each item.
    """

    item: Int[np.ndarray, " rows"]
    weight: Float[np.ndarray, " rows"]
    person_type: Int[np.ndarray, " rows"]
    person_severity: Int[np.ndarray, " rows"]
    audit_type: Int[np.ndarray, " rows"]
    audit_severity: Int[np.ndarray, " rows"]
    decided: np.ndarray
    strata: Sequence[str]


@dataclass(frozen=True)
class StratumCounts:
    """Number of pairs in one stratum of the audit: all, sampled, and annotated by somebody."""

    pairs: int
    sampled: int
    annotated: int


Measures = dict[str, Estimate | None]
"""Estimates by name, such as `precision`, `kappa` or `omits f1`; None where not defined."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of the audit's verdicts with people's.

    A pair that was not screened is the audit's "no drift". A pair without a verdict (a failed or
    undecided judgement) is neither: it is left out, and reported in `undecided`.

    Attributes:
        confidence: Coverage of the intervals.
        strata: Counts by the audit's outcome.
        annotators: Number of answers by person.
        drift: precision, recall, f1, kappa, and `recall_undecided_missed`, which counts pairs
            without a verdict as missed.
        type, severity: kappa (severity's with quadratic weights over none to extreme),
            `kappa_where_both_see_drift`, and precision, recall and f1 of each class.
        undecided: `share` of pairs without a verdict among all, and share of those in which people
            see `drift`.
        error: Its error on pairs with a verdict; None where people saw drift in all, or in none.
        source: How people were shown the pairs: `sample`, `page_blind` or `page_open`.
        half_width: Half of an interval that is narrow enough to mean something.
        needs: How far `precision`, `recall` and `kappa` of drift are from that; empty in a file of
            an earlier version.
    """

    confidence: float
    strata: dict[str, StratumCounts]
    annotators: dict[str, int]
    drift: Measures
    type: Measures
    severity: Measures
    undecided: Measures
    between_annotators: BetweenPeople
    error: ErrorRates | None = None
    source: str = "sample"
    half_width: float = HALF_WIDTH
    needs: dict[str, SampleNeed] = field(default_factory=dict)


def read_agreement(run_path: Path) -> Agreement | None:
    """Read a run's agreement with people; None where nobody annotated."""
    path = run_path / ANNOTATION_METRICS
    return read_json(path, Agreement) if path.exists() else None


def measure(
    key: Sequence[KeyedItem],
    outcomes: Mapping[str, Outcome],
    annotations: Sequence[Annotation],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    half_width: float = HALF_WIDTH,
) -> Agreement:
    """Measure the audit's precision, recall and kappa, and the agreement between people.

    Args:
        key: The key of the whole sample.
        outcomes: Outcome of each judged pair, by question id.
        annotations: People's answers on items of the sample, see `annotations.read_annotations`.
        resamples, confidence, seed: Number of resamples, coverage and seed of the intervals.
        half_width: Half of an interval that is narrow enough; see `sample_size`.

    Raises:
        ValueError: There are no annotations.
    """
    if not annotations:
        raise ValueError("the files hold no answered item; fill in worse, type and severity")

    answers = _answers(key, outcomes, annotations)
    point = _measures(answers, answers.weight)
    rng = np.random.RandomState(seed)  # the generator that sklearn's resample takes
    resampled = [_measures(answers, _redrawn(answers, rng)) for _ in range(resamples)]

    # Half of what the interval leaves out, in percent.
    tail = 50 * (1 - confidence)
    groups: dict[str, Measures] = {"drift": {}, "type": {}, "severity": {}, "undecided": {}}
    for (group, name), value in point.items():
        # A resample may leave a measure undefined, for example when it draws no drift at all.
        of_measure = [row[group, name] for row in resampled]
        defined = [drawn for drawn in of_measure if not math.isnan(drawn)]
        if math.isnan(value) or not defined:
            groups[group][name] = None
        else:
            low, high = np.percentile(defined, [tail, 100 - tail])
            groups[group][name] = Estimate(value, float(low), float(high))

    answers_of = Counter(annotation.annotator for annotation in annotations)
    return Agreement(
        confidence=confidence,
        strata=_strata(key, {annotation.item for annotation in annotations}),
        annotators=dict(sorted(answers_of.items())),
        between_annotators=between_annotators(key, annotations),
        error=_error(answers),
        half_width=half_width,
        needs=_needs(answers, groups["drift"], confidence, half_width),
        **groups,
    )


def _needs(
    answers: _Answers, drift: Measures, confidence: float, half_width: float
) -> dict[str, SampleNeed]:
    """Say of each figure on drift how many pairs it is a share of, and how many it needs."""
    cases = {
        "precision": answers.decided & (answers.audit_type > 0),
        "recall": answers.decided & (answers.person_type > 0),
        "kappa": answers.decided,
    }
    needs = {}
    for name, of_measure in cases.items():
        size = effective_size(answers.item, answers.weight * of_measure)
        # One stratum an item: this counts the annotated pairs, however many answered each.
        answered = len(answers.strata)
        needs[name] = sample_need(drift[name], size, answered, confidence, half_width)
    return needs


def _error(answers: _Answers) -> ErrorRates | None:
    use = answers.decided
    return error_rates(
        answers.item[use],
        answers.person_type[use] > 0,
        answers.audit_type[use] > 0,
        answers.weight[use],
    )


def _answers(
    key: Sequence[KeyedItem],
    outcomes: Mapping[str, Outcome],
    annotations: Sequence[Annotation],
) -> _Answers:
    keyed_of = {keyed.item: keyed for keyed in key}
    answers_of = Counter(annotation.item for annotation in annotations)
    item_index = {item: index for index, item in enumerate(answers_of)}
    drawn = Counter(keyed.stratum for keyed in key)
    answered = Counter(keyed_of[item].stratum for item in answers_of)

    rows = []
    for annotation in annotations:
        keyed = keyed_of[annotation.item]
        outcome = outcomes.get(keyed.question_id)
        # An item that nobody answered is as if it had not been drawn.
        probability = keyed.probability * answered[keyed.stratum] / drawn[keyed.stratum]
        weight = 1 / probability / answers_of[annotation.item]

        # Without an outcome a pair was not screened, which says "no drift"; a failure says nothing.
        decided = outcome is None or isinstance(outcome, Verdict)
        audit = (
            drift_codes(outcome.type, outcome.severity) if isinstance(outcome, Verdict) else (0, 0)
        )
        person = person_codes(keyed, annotation)
        rows.append((item_index[keyed.item], weight, *person, *audit, decided))

    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return _Answers(*columns, strata=[keyed_of[item].stratum for item in item_index])


def _redrawn(answers: _Answers, rng: np.random.RandomState) -> Float[np.ndarray, " rows"]:
    """Weight each answer by how often its item was drawn in one stratified resample."""
    from sklearn.utils import resample

    # Items are drawn, and not answers: the answers to one item are not independent.
    items = np.arange(len(answers.strata))
    drawn = resample(items, stratify=answers.strata, random_state=rng)
    times_drawn = np.bincount(drawn, minlength=len(items))
    return answers.weight * times_drawn[answers.item]


def _measures(
    answers: _Answers, weight: Float[np.ndarray, " rows"]
) -> dict[tuple[str, str], float]:
    """Compute every measure by (group, name); NaN where it is not defined."""
    by_person = answers.person_type > 0
    by_audit = answers.audit_type > 0
    # A row that a resample did not draw must not show its label to kappa, which would then take
    # two labels to be there and divide 0 by 0.
    use = answers.decided & (weight > 0)
    both = use & by_person & by_audit
    w = weight[use]

    [drift] = _shares(by_person[use], by_audit[use], [True], w)
    seen_by_people = weight[by_person].sum()
    undecided = weight[~answers.decided]
    undecided_drift = weight[~answers.decided & by_person]
    result = {
        **{("drift", name): value for name, value in drift.items()},
        ("drift", "recall_undecided_missed"): _ratio(weight[both].sum(), seen_by_people),
        ("drift", "kappa"): cohens_kappa(by_person[use], by_audit[use], [False, True], w),
        ("type", "kappa"): cohens_kappa(
            answers.person_type[use], answers.audit_type[use], range(4), w
        ),
        ("type", "kappa_where_both_see_drift"): cohens_kappa(
            answers.person_type[both], answers.audit_type[both], range(1, 4), weight[both]
        ),
        ("severity", "kappa"): cohens_kappa(
            answers.person_severity[use], answers.audit_severity[use], range(5), w, "quadratic"
        ),
        ("severity", "kappa_where_both_see_drift"): cohens_kappa(
            answers.person_severity[both],
            answers.audit_severity[both],
            range(1, 5),
            weight[both],
            "quadratic",
        ),
        ("undecided", "share"): _ratio(undecided.sum(), weight.sum()),
        ("undecided", "drift"): _ratio(undecided_drift.sum(), undecided.sum()),
    }

    type_names = [type.value for type in TYPES]
    severity_names = [severity.name.lower() for severity in SEVERITIES]
    for group, names, of_person, of_audit in (
        ("type", type_names, answers.person_type, answers.audit_type),
        ("severity", severity_names, answers.person_severity, answers.audit_severity),
    ):
        of_classes = _shares(of_person[use], of_audit[use], range(1, 1 + len(names)), w)
        for name, shares in zip(names, of_classes, strict=True):
            for share, value in shares.items():
                result[group, f"{name} {share}"] = value

    return result


def _shares(
    truth: np.ndarray, predicted: np.ndarray, labels: Sequence, weight: np.ndarray
) -> list[dict[str, float]]:
    """Compute precision, recall and F1 of each label; NaN where they have no case."""
    rows = []
    for label in labels:
        true_positive = weight[(truth == label) & (predicted == label)].sum()
        in_truth = weight[truth == label].sum()
        in_predicted = weight[predicted == label].sum()
        rows.append(
            {
                "precision": _ratio(true_positive, in_predicted),
                "recall": _ratio(true_positive, in_truth),
                "f1": _ratio(2 * true_positive, in_truth + in_predicted),
            }
        )

    return rows


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _strata(key: Sequence[KeyedItem], answered: set[str]) -> dict[str, StratumCounts]:
    strata = {}
    for name in sorted({keyed.stratum for keyed in key}):
        members = [keyed for keyed in key if keyed.stratum == name]
        strata[name] = StratumCounts(
            # The key does not hold the size of a stratum, but its probabilities add up to it.
            pairs=round(sum(1 / keyed.probability for keyed in members)),
            sampled=len(members),
            annotated=sum(keyed.item in answered for keyed in members),
        )
    return strata
