"""The audit's verdicts against people's, weighted back from the sample to all pairs.

A sampled pair counts for 1 / (its probability of being drawn and answered) pairs. Where several
people answered an item, each answer counts for its share: the figures are those against a person
picked at random. Intervals are percentile bootstraps that draw items again within each stratum.
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
    """One row an answer. Codes are 0 for no drift, else 1 + the place in TYPES or SEVERITIES.

    Attributes:
        item: Row of `strata` that the answer belongs to.
        weight: Pairs for which the answer stands.
        person_type, person_severity, audit_type, audit_severity: Codes.
        decided: Whether the audit has a verdict, or passed the pair over.
        strata: Of each item.
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
    """Pairs of one stratum of the audit: all, sampled, and annotated by somebody."""

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
    """How well people agree with each other.

    Of the sample as it is, not weighted. Drift and type are nominal; severity is ordinal for
    alpha and has quadratic weights for kappa.

    Attributes:
        items: Answered by more than one person.
        alpha: Krippendorff's, by `drift`, `type` and `severity`; None where not defined.
    """

    items: int
    alpha: dict[str, float | None]
    pairs: list[PeoplePair]


Measures = dict[str, Estimate | None]
"""By name, such as `precision`, `kappa` or `omits f1`; None where it is not defined."""


@dataclass(frozen=True)
class Agreement:
    """The audit's verdicts against people's.

    A pair that was not screened is the audit's "no drift". A pair without a verdict (a failed or
    undecided judgement) is left out, since it is neither, and told apart in `undecided`.

    Attributes:
        confidence: Coverage of the intervals.
        strata: By the audit's outcome.
        annotators: Number of answers of each person.
        drift: precision, recall, f1, kappa, and `recall_undecided_missed`, which counts pairs
            without a verdict as missed.
        type, severity: kappa (severity's with quadratic weights over none to extreme),
            `kappa_where_both_see_drift`, and precision, recall and f1 of each class.
        undecided: `share` of all pairs, and of these the share in which people see `drift`.
        source: How the pairs came before people: `sample`, `page_blind` or `page_open`.
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
        key: The whole sample.
        outcomes: By question id, of the pairs that were judged.
        annotations: On items of the sample, see `annotations.read_annotations`.
        resamples, confidence, seed: Of the intervals.

    Raises:
        ValueError: no annotations.
    """
    if not annotations:
        raise ValueError("the files hold no answered item; fill in worse, type and severity")

    answers = _answers(key, outcomes, annotations)
    point = _measures(answers, answers.weight)
    rng = np.random.RandomState(seed)  # what sklearn's resampling takes
    drawn = [_measures(answers, _redrawn(answers, rng)) for _ in range(resamples)]

    outside = 50 * (1 - confidence)
    groups: dict[str, Measures] = {"drift": {}, "type": {}, "severity": {}, "undecided": {}}
    for (group, name), value in point.items():
        resampled = [row[group, name] for row in drawn if not math.isnan(row[group, name])]
        if math.isnan(value) or not resampled:
            groups[group][name] = None
        else:
            low, high = np.percentile(resampled, [outside, 100 - outside])
            groups[group][name] = Estimate(value, float(low), float(high))

    return Agreement(
        confidence=confidence,
        strata=_strata(key, {annotation.item for annotation in annotations}),
        annotators=dict(sorted(Counter(a.annotator for a in annotations).items())),
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
    drawn = Counter(keyed.stratum for keyed in key)
    answered = Counter(keyed_of[item].stratum for item in answers_of)
    place = {item: index for index, item in enumerate(answers_of)}

    rows = []
    for annotation in annotations:
        keyed = keyed_of[annotation.item]
        outcome = outcomes.get(keyed.question_id)
        # An item that nobody answered is as if it had not been drawn.
        probability = keyed.probability * answered[keyed.stratum] / drawn[keyed.stratum]
        weight = 1 / probability / answers_of[annotation.item]
        decided = outcome is None or isinstance(outcome, Verdict)
        audit = _codes(outcome.type, outcome.severity) if isinstance(outcome, Verdict) else (0, 0)
        rows.append((place[keyed.item], weight, *_person(keyed, annotation), *audit, decided))

    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return _Answers(*columns, strata=[keyed_of[item].stratum for item in place])


def _person(keyed: KeyedItem, annotation: Annotation) -> tuple[int, int]:
    """A person sees drift where the candidate is the worse text; a worse M0 is none."""
    if annotation.worse != keyed.candidate:
        return 0, 0
    return _codes(annotation.type, annotation.severity)


def _codes(type: DriftType | None, severity: Severity | None) -> tuple[int, int]:
    return (0, 0) if type is None else (1 + TYPES.index(type), 1 + SEVERITIES.index(severity))


def _redrawn(answers: _Answers, rng: np.random.RandomState) -> Float[np.ndarray, " rows"]:
    from sklearn.utils import resample

    items = np.arange(len(answers.strata))
    drawn = resample(items, stratify=answers.strata, random_state=rng)
    return answers.weight * np.bincount(drawn, minlength=len(items))[answers.item]


def _measures(
    answers: _Answers, weight: Float[np.ndarray, " rows"]
) -> dict[tuple[str, str], float]:
    """Every measure by (group, name); NaN where it is not defined."""
    person, found = answers.person_type > 0, answers.audit_type > 0
    use = answers.decided & (weight > 0)
    w = weight[use]
    drift = _shares(person[use], found[use], [True], w)[0]
    both = use & person & found
    missed = weight[person].sum()
    undecided = weight[~answers.decided]
    result = {
        **{("drift", name): value for name, value in drift.items()},
        ("drift", "recall_undecided_missed"): _ratio(weight[use & person & found].sum(), missed),
        ("drift", "kappa"): _kappa(person[use], found[use], [False, True], w),
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
        ("undecided", "drift"): _ratio(weight[~answers.decided & person].sum(), undecided.sum()),
    }

    for group, names, codes in (
        ("type", [type.value for type in TYPES], (answers.person_type, answers.audit_type)),
        (
            "severity",
            [severity.name.lower() for severity in SEVERITIES],
            (answers.person_severity, answers.audit_severity),
        ),
    ):
        of_classes = _shares(codes[0][use], codes[1][use], range(1, 1 + len(names)), w)
        for name, shares in zip(names, of_classes, strict=True):
            result |= {(group, f"{name} {share}"): value for share, value in shares.items()}

    return result


def _shares(
    truth: np.ndarray, found: np.ndarray, labels: Sequence, weight: np.ndarray
) -> list[dict[str, float]]:
    """Precision, recall and F1 of each label; NaN where it has no case to be measured on."""
    rows = []
    for label in labels:
        true, said = truth == label, found == label
        both, are, named = (weight[mask].sum() for mask in (true & said, true, said))
        rows.append(
            {
                "precision": _ratio(both, named),
                "recall": _ratio(both, are),
                "f1": _ratio(2 * both, are + named),
            }
        )

    return rows


def _kappa(
    one: np.ndarray,
    other: np.ndarray,
    labels: Sequence[int],
    weight: np.ndarray | None = None,
    weights: str | None = None,
) -> float:
    """Cohen's kappa; NaN where there is one label on both sides: chance agrees as well.

    Args:
        labels: Consecutive codes.
        weights: None, or `quadratic` for ordered codes.
    """
    # By hand: sklearn's checks of its arguments take 20 ms for every resample.
    if not len(one) or len({*one.tolist(), *other.tolist()}) < 2:
        return math.nan
    size, lowest = len(labels), int(labels[0])
    cells = (one.astype(int) - lowest) * size + other.astype(int) - lowest
    table = np.bincount(cells, weight, minlength=size**2).reshape(size, size)
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    cost = apart**2 if weights == "quadratic" else apart > 0
    return float(1 - (cost * table).sum() / (cost * by_chance).sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _strata(key: Sequence[KeyedItem], answered: set[str]) -> dict[str, StratumCounts]:
    strata = {}
    for name in sorted({keyed.stratum for keyed in key}):
        own = [keyed for keyed in key if keyed.stratum == name]
        strata[name] = StratumCounts(
            pairs=round(sum(1 / keyed.probability for keyed in own)),
            sampled=len(own),
            annotated=sum(keyed.item in answered for keyed in own),
        )
    return strata


def between_annotators(
    key: Sequence[KeyedItem], annotations: Sequence[Annotation]
) -> BetweenPeople:
    """Krippendorff's alpha over all, and Cohen's kappa of each two, on the items they share."""
    keyed_of = {keyed.item: keyed for keyed in key}
    names = sorted({annotation.annotator for annotation in annotations})
    items = sorted({annotation.item for annotation in annotations})
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
    for one, other in itertools.combinations(range(len(names)), 2):
        common = np.isfinite(types[[one, other]]).all(axis=0)
        kappas = {}
        for name, (table, labels, _, weights) in measures.items():
            kappa = _kappa(table[one, common], table[other, common], labels, None, weights)
            kappas[name] = _none(kappa)
        pairs.append(PeoplePair([names[one], names[other]], int(common.sum()), **kappas))

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
    return None if math.isnan(value) else value
