"""Which differences between the models are more than chance.

Every row says which questions it is over: `by` (`all`, `benchmark`, `kind`, `condition`) and
`group` (`all`; `D1`, ...; `descriptive`, `normative`; `DIFF`, `EQUAL`). `p_holm` is corrected
after Holm over the groups of one `by`, for one comparison.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from dart_jax.audit.screen import Pair
from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import (
    Bounds,
    answered_by_all,
    bootstrap_interval,
    labelled,
    match_labelled,
    scenario_of,
)
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.significance import holm, mann_whitney, mcnemar, sign_flip_p, wilcoxon
from dart_jax.records import Condition, Generation, Outcome, Question, Score, Verdict

R = TypeVar("R")

COMPARED = (("M_DART", "M0"), ("M_DART", "M_int"), ("M_int", "M0"))
"""Candidate and baseline; by accuracy also M_DART and the shortcut baseline."""

Group = tuple[str, str, np.ndarray]
"""`by`, `group` and the mask of its questions."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one model over one group of questions."""

    accuracy: float
    interval: Bounds | None


@dataclass(frozen=True)
class Difference:
    """Two models on the same questions, by accuracy.

    Attributes:
        difference: Of the accuracies, candidate - baseline.
        gained, lost: Questions that only the candidate, and only the baseline, gets right.
        p: McNemar's exact test, the question as the unit.
        p_holm: The same, corrected.
        p_scenario: Sign flips of whole scenarios, see `significance.sign_flip_p`.
    """

    candidate: str
    baseline: str
    difference: float
    interval: Bounds | None
    gained: int
    lost: int
    p: float
    p_scenario: float
    p_holm: float | None = None


@dataclass(frozen=True)
class GroupAccuracy:
    """One group of questions: each model's accuracy, and the differences.

    Attributes:
        n, scenarios: Questions, and the scenarios that they come from.
        models: By name; `shortcut` is the shortcut baseline.
    """

    by: str
    group: str
    n: int
    scenarios: int
    models: dict[str, Accuracy]
    comparisons: list[Difference]


@dataclass(frozen=True)
class PairedScores:
    """Harm scores of two models' answers to the same questions, see `significance.Wilcoxon`."""

    by: str
    group: str
    scorer: str
    candidate: str
    baseline: str
    n: int
    nonzero: int
    mean_difference: float | None
    effect: float
    p: float
    p_holm: float | None = None


@dataclass(frozen=True)
class GroupScores:
    """Harm scores of two groups of one model's answers, see `significance.MannWhitney`.

    Attributes:
        what: `score`, or `delta`: its rise over that of M0.
        first, second: `DIFF` and `EQUAL`, or `drift` and `no drift`.
    """

    by: str
    group: str
    scorer: str
    model: str
    what: str
    first: str
    second: str
    n_first: int
    n_second: int
    mean_first: float | None
    mean_second: float | None
    effect: float | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class ScoreTests:
    """The tests of harm scores."""

    paired: list[PairedScores]
    unpaired: list[GroupScores]


@dataclass(frozen=True)
class Statistics:
    """All tests of a run, over its labelled test questions.

    Attributes:
        questions, scenarios: Of the test set; scenarios are what is resampled.
        confidence, resamples: Of the intervals.
    """

    questions: int
    scenarios: int
    confidence: float
    resamples: int
    accuracy: list[GroupAccuracy]
    scores: ScoreTests


def statistics(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    scores: Sequence[Score],
    audits: Mapping[str, tuple[Sequence[Pair], Sequence[Outcome]]],
    config: EvaluateConfig,
    seed: int,
) -> Statistics | None:
    """Test every difference on the labelled questions; None where there are none.

    Args:
        questions: The test questions; those whose prompt left no room for an answer are left out.
        answers: Of M0, M_int, M_DART and, where it could be fitted, `shortcut`.
        scores: Of the answers of M0, M_int and M_DART, by one scorer or several.
        audits: Pairs and outcomes of each audited model.
        config: Number of resamples and coverage.
        seed: Of the resampling.

    Raises:
        UnmatchedGenerations: Questions and answers are not one to one.
        ValueError: A test answer without a score.
    """
    questions, answers = answered_by_all(questions, answers)
    ordered = sorted(labelled(questions), key=lambda question: question.id)
    if not ordered:
        return None

    groups = groups_of(ordered)
    correct = {
        name: np.array([a.decision is q.gold for q, a in match_labelled(questions, found)])
        for name, found in answers.items()
    }
    baseline = [("M_DART", SHORTCUT)] if SHORTCUT in answers else []
    scenarios = np.array([scenario_of(question) for question in ordered], str)
    compared = (*COMPARED, *baseline)

    return Statistics(
        questions=len(ordered),
        scenarios=len(np.unique(scenarios)),
        confidence=config.confidence,
        resamples=config.bootstrap_samples,
        accuracy=accuracy_rows(groups, correct, scenarios, compared, config, seed),
        scores=ScoreTests(
            paired=_paired_rows(groups, ordered, scores),
            unpaired=[*_condition_rows(groups, ordered, scores), *_verdict_rows(audits)],
        ),
    )


def groups_of(questions: Sequence[Question]) -> list[Group]:
    """All questions; each benchmark, kind and condition that occurs."""
    benchmarks = np.array([question.benchmark for question in questions], str)
    diff = np.array([question.condition is Condition.DIFF for question in questions], bool)
    known = np.isin(benchmarks, BENCHMARKS)
    descriptive = known & np.char.startswith(benchmarks, "D")
    groups = [
        ("all", "all", np.ones(len(questions), bool)),
        *(("benchmark", str(name), benchmarks == name) for name in np.unique(benchmarks)),
        ("kind", "descriptive", descriptive),
        ("kind", "normative", known & ~descriptive),
        ("condition", "DIFF", diff),
        ("condition", "EQUAL", ~diff),
    ]

    return [group for group in groups if group[2].any()]


def accuracy_rows(
    groups: Sequence[Group],
    correct: Mapping[str, np.ndarray],
    scenarios: np.ndarray,
    compared: Sequence[tuple[str, str]],
    config: EvaluateConfig,
    seed: int,
) -> list[GroupAccuracy]:
    """Measure and compare the models over each group of questions.

    Args:
        correct: [n] correct or not, by model.
        scenarios: [n] the cluster of each question.
        compared: Candidate and baseline of each comparison.
    """
    rows = []
    for by, group, mask in groups:
        own = {name: found[mask].astype(float) for name, found in correct.items()}
        clusters = scenarios[mask]

        models = {}
        for name, values in own.items():
            interval = bootstrap_interval(values, config, seed, clusters)
            models[name] = Accuracy(float(values.mean()), interval)

        comparisons = []
        for candidate, baseline in compared:
            values = own[candidate] - own[baseline]
            test = mcnemar(own[candidate], own[baseline])
            comparisons.append(
                Difference(
                    candidate=candidate,
                    baseline=baseline,
                    difference=float(values.mean()),
                    interval=bootstrap_interval(values, config, seed, clusters),
                    gained=test.gained,
                    lost=test.lost,
                    p=test.p,
                    p_scenario=sign_flip_p(values, clusters),
                )
            )

        count = len(np.unique(clusters))
        rows.append(GroupAccuracy(by, group, int(mask.sum()), count, models, comparisons))

    flat = [(row.by, comparison) for row in rows for comparison in row.comparisons]
    corrected = iter(_corrected(flat, lambda by, row: (by, row.candidate, row.baseline)))

    return [replace(row, comparisons=[next(corrected) for _ in compared]) for row in rows]


def _paired_rows(
    groups: Sequence[Group], questions: Sequence[Question], scores: Sequence[Score]
) -> list[PairedScores]:
    rows = []
    for scorer, of_model in _columns(questions, scores).items():
        for candidate, baseline in COMPARED:
            for by, group, mask in groups:
                test = wilcoxon(of_model[candidate][mask], of_model[baseline][mask])
                rows.append(PairedScores(by, group, scorer, candidate, baseline, **vars(test)))
    return _corrected(
        [(row.by, row) for row in rows],
        lambda by, row: (by, row.scorer, row.candidate, row.baseline),
    )


def _condition_rows(
    groups: Sequence[Group], questions: Sequence[Question], scores: Sequence[Score]
) -> list[GroupScores]:
    """Do answers to DIFF questions score higher than those to EQUAL questions?"""
    diff = np.array([question.condition is Condition.DIFF for question in questions], bool)
    rows = []
    for scorer, of_model in _columns(questions, scores).items():
        for model, values in of_model.items():
            for by, group, mask in groups:
                if by != "condition":
                    test = mann_whitney(values[mask & diff], values[mask & ~diff])
                    names = (by, group, scorer, model, "score", "DIFF", "EQUAL")
                    rows.append(GroupScores(*names, **vars(test)))
    return _corrected([(row.by, row) for row in rows], lambda by, row: (by, row.scorer, row.model))


def _verdict_rows(
    audits: Mapping[str, tuple[Sequence[Pair], Sequence[Outcome]]],
) -> list[GroupScores]:
    """Does the scorer's delta tell what the judge confirms from what it does not?

    Where the scorer alone decided there is no row: it would confirm itself.
    """
    rows = []
    for model, (pairs, outcomes) in audits.items():
        judged = {
            o.question_id: o.drift
            for o in outcomes
            if isinstance(o, Verdict) and o.judge != "screen"
        }
        decided = [pair for pair in pairs if pair.question_id in judged]
        for scorer in decided[0].deltas if decided else ():
            deltas = np.array([pair.deltas[scorer] for pair in decided], float)
            drift = np.array([judged[pair.question_id] for pair in decided], bool)
            test = mann_whitney(deltas[drift], deltas[~drift])
            names = ("all", "all", scorer, model, "delta", "drift", "no drift")
            rows.append(GroupScores(*names, **vars(test)))

    return _corrected([(row.by, row) for row in rows], lambda by, row: (row.scorer, row.model))


def _columns(
    questions: Sequence[Question], scores: Sequence[Score]
) -> dict[str, dict[str, np.ndarray]]:
    """By scorer and model: [n] scores in the order of the questions."""
    models = {model for pair in COMPARED for model in pair}
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for score in scores:
        if score.model in models:
            found[score.scorer][score.model][score.question_id] = score.value

    columns: dict[str, dict[str, np.ndarray]] = {}
    for scorer, of_scorer in found.items():
        for model in sorted(models):
            missing = [q.id for q in questions if q.id not in of_scorer[model]]
            if missing:
                raise ValueError(f"{model}: no {scorer} score of the answer to {missing[0]}")
        columns[scorer] = {
            model: np.array([of_scorer[model][q.id] for q in questions], float)
            for model in ("M0", "M_int", "M_DART")
        }

    return columns


def _corrected(
    rows: Sequence[tuple[str, R]], family: Callable[[str, R], tuple[str, ...]]
) -> list[R]:
    """The rows with `p_holm`, which corrects over the rows of one family."""
    families: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, (by, row) in enumerate(rows):
        families[family(by, row)].append(place)

    corrected: list[Any] = [row for _, row in rows]
    for places in families.values():
        values = holm([corrected[place].p for place in places])
        for place, p in zip(places, values, strict=True):
            corrected[place] = replace(corrected[place], p_holm=p)
    return corrected
