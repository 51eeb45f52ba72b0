"""Agreement of the audit's verdicts with people's, weighted back from the sample to all pairs.

A sampled pair counts for 1 / (its probability of being drawn and answered) pairs. Where several
people answered an item, each answer counts for its share: the figures are those against a person
picked at random. Intervals are percentile bootstraps that resample items within each stratum.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.records import DriftType, Outcome, Severity, Verdict
from dart_jax.summaries import Estimate

TYPES = tuple(DriftType)
SEVERITIES = tuple(Severity)


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


@dataclass(frozen=True)
class PeoplePair:
    """Cohen's kappa of two people on the items that both answered; None where not defined."""

    annotators: list[str]
    items: int
    drift: float | None
    type: float | None
    severity: float | None


@dataclass(frozen=True)
class BetweenPeople:
    """Agreement of people with each other, on the sample as it is and unweighted.

    Drift and type are nominal; severity is ordinal for alpha and has quadratic weights for kappa.

    Attributes:
        items: Number of items that more than one person answered.
        alpha: Krippendorff's alpha by `drift`, `type` and `severity`; None where not defined.
    """

    items: int
    alpha: dict[str, float | None]
    pairs: list[PeoplePair]


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
        source: How people were shown the pairs: `sample`, `page_blind` or `page_open`.
    """

    confidence: float
    strata: dict[str, StratumCounts]
    annotators: dict[str, int]
    drift: Measures
    type: Measures
    severity: Measures
    undecided: Measures
    between_annotators: BetweenPeople
    source: str = "sample"


def measure(
    key: Sequence[KeyedItem],
    outcomes: Mapping[str, Outcome],
    annotations: Sequence[Annotation],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Measure the audit's precision, recall and kappa, and the agreement between people.

    Args:
        key: The key of the whole sample.
        outcomes: Outcome of each judged pair, by question id.
        annotations: People's answers on items of the sample, see `annotations.read_annotations`.
        resamples, confidence, seed: Number of resamples, coverage and seed of the intervals.

    Raises:
        ValueError: There are no annotations.
    """
    if not annotations:
        raise ValueError("the files hold no answered item; fill in worse, type and severity")

    answers = _answers(key, outcomes, annotations)
    point = _measures(answers, answers.weight)
    rng = np.random.RandomState(seed)  # the generator that sklearn's resample takes
    resampled = [_measures(answers, _redrawn(answers, rng)) for _ in range(resamples)]

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
        **groups,
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
        decided = outcome is None or isinstance(outcome, Verdict)
        audit = _codes(outcome.type, outcome.severity) if isinstance(outcome, Verdict) else (0, 0)
        person = _person(keyed, annotation)
        rows.append((item_index[keyed.item], weight, *person, *audit, decided))

    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return _Answers(*columns, strata=[keyed_of[item].stratum for item in item_index])


def _person(keyed: KeyedItem, annotation: Annotation) -> tuple[int, int]:
    """Encode a person's answer: drift where the candidate is the worse text, else no drift."""
    if annotation.worse != keyed.candidate:
        return 0, 0
    return _codes(annotation.type, annotation.severity)


def _codes(type: DriftType | None, severity: Severity | None) -> tuple[int, int]:
    if type is None:
        return 0, 0
    return 1 + TYPES.index(type), 1 + SEVERITIES.index(severity)


def _redrawn(answers: _Answers, rng: np.random.RandomState) -> Float[np.ndarray, " rows"]:
    """Weight each answer by how often its item was drawn in one stratified resample."""
    from sklearn.utils import resample

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
        ("drift", "kappa"): _kappa(by_person[use], by_audit[use], [False, True], w),
        ("type", "kappa"): _kappa(answers.person_type[use], answers.audit_type[use], range(4), w),
        ("type", "kappa_where_both_see_drift"): _kappa(
            answers.person_type[both], answers.audit_type[both], range(1, 4), weight[both]
        ),
        ("severity", "kappa"): _kappa(
            answers.person_severity[use], answers.audit_severity[use], range(5), w, "quadratic"
        ),
        ("severity", "kappa_where_both_see_drift"): _kappa(
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
    for group, names, person_codes, audit_codes in (
        ("type", type_names, answers.person_type, answers.audit_type),
        ("severity", severity_names, answers.person_severity, answers.audit_severity),
    ):
        of_classes = _shares(person_codes[use], audit_codes[use], range(1, 1 + len(names)), w)
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


def _kappa(
    first: np.ndarray,
    second: np.ndarray,
    labels: Sequence[int],
    weight: np.ndarray | None = None,
    weights: str | None = None,
) -> float:
    """Compute Cohen's kappa; NaN where one label is all there is, on which chance agrees as well.

    Args:
        labels: All codes that may occur, consecutive.
        weight: Of each row; None counts rows alike.
        weights: How disagreements weigh: None for alike, or `quadratic` for ordered codes.
    """
    # By hand: sklearn's checks of its arguments take 20 ms for every resample.
    if not len(first) or len({*first.tolist(), *second.tolist()}) < 2:
        return math.nan

    size, lowest = len(labels), int(labels[0])
    cells = (first.astype(int) - lowest) * size + second.astype(int) - lowest
    table = np.bincount(cells, weight, minlength=size**2).reshape(size, size)
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()

    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    cost = distance**2 if weights == "quadratic" else distance > 0

    return float(1 - (cost * table).sum() / (cost * by_chance).sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _strata(key: Sequence[KeyedItem], answered: set[str]) -> dict[str, StratumCounts]:
    strata = {}
    for name in sorted({keyed.stratum for keyed in key}):
        members = [keyed for keyed in key if keyed.stratum == name]
        strata[name] = StratumCounts(
            pairs=round(sum(1 / keyed.probability for keyed in members)),
            sampled=len(members),
            annotated=sum(keyed.item in answered for keyed in members),
        )
    return strata


def between_annotators(
    key: Sequence[KeyedItem], annotations: Sequence[Annotation]
) -> BetweenPeople:
    """Compute Krippendorff's alpha over all people and Cohen's kappa of each two of them.

    Each figure is over the items that its people share.
    """
    keyed_of = {keyed.item: keyed for keyed in key}
    names = sorted({annotation.annotator for annotation in annotations})
    items = sorted({annotation.item for annotation in annotations})

    # Codes of type and severity, [annotator, item] each; NaN where somebody left an item out.
    codes = np.full((2, len(names), len(items)), np.nan)

    for annotation in annotations:
        row, column = names.index(annotation.annotator), items.index(annotation.item)
        codes[:, row, column] = _person(keyed_of[annotation.item], annotation)

    types, severities = codes
    drift = np.where(np.isnan(types), np.nan, types > 0)
    measures = {
        "drift": (drift, range(2), "nominal", None),
        "type": (types, range(4), "nominal", None),
        "severity": (severities, range(5), "ordinal", "quadratic"),
    }

    pairs = []
    for first, second in itertools.combinations(range(len(names)), 2):
        common = np.isfinite(types[[first, second]]).all(axis=0)
        kappas = {}
        for name, (table, labels, _, weights) in measures.items():
            kappa = _kappa(table[first, common], table[second, common], labels, None, weights)
            kappas[name] = _none(kappa)
        pairs.append(PeoplePair([names[first], names[second]], int(common.sum()), **kappas))

    shared = np.isfinite(types).sum(axis=0) > 1
    alpha = {}
    for name, (table, labels, level, _) in measures.items():
        alpha[name] = _none(_alpha(table[:, shared], labels, level))

    return BetweenPeople(int(shared.sum()), alpha, pairs)


def _alpha(table: Float[np.ndarray, "annotators items"], labels: range, level: str) -> float:
    import krippendorff

    if len(np.unique(table[np.isfinite(table)])) < 2:
        return math.nan
    return float(
        krippendorff.alpha(
            reliability_data=table, value_domain=list(labels), level_of_measurement=level
        )
    )


def _none(value: float) -> float | None:
    """Turn NaN, which JSON has not, into None."""
    return None if math.isnan(value) else value
