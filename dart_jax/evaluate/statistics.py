"""Significance of the differences between a run's models, by accuracy and by harm score.

Each row names the questions that it is over: `by` (`all`, `benchmark`, `kind`, `condition`) and
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
from dart_jax.evaluate.bootstrap import DIFFERENCE, bootstrap_interval
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import answered_by_all, labelled, match_labelled, scenario_of
from dart_jax.evaluate.models import MODELS
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.significance import holm, mann_whitney, mcnemar, sign_flip_p, wilcoxon
from dart_jax.records import Condition, Generation, Outcome, Question, Score, Verdict
from dart_jax.summaries import Bounds

R = TypeVar("R")

COMPARED = (("M_DART", "M0"), ("M_DART", "M_int"), ("M_int", "M0"))
"""Candidate and baseline of each test; accuracy is also tested against the shortcut baseline."""

Group = tuple[str, str, np.ndarray]
"""`by`, `group` and the mask [n] of the questions in the group."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one model over one group of questions."""

    accuracy: float
    interval: Bounds | None


@dataclass(frozen=True)
class Difference:
    """The difference in accuracy between two models on the same questions.

    Attributes:
        difference: Accuracy of the candidate less that of the baseline.
        gained, lost: Questions that only the candidate, and only the baseline, gets right.
        p: McNemar's exact test, with the question as the unit.
        p_holm: p corrected after Holm.
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
    """Accuracy of the models over one group of questions, and their differences.

    Attributes:
        n, scenarios: Number of questions, and of the scenarios that they come from.
        models: Accuracy by name; `shortcut` is the shortcut baseline.
    """

    by: str
    group: str
    n: int
    scenarios: int
    models: dict[str, Accuracy]
    comparisons: list[Difference]


@dataclass(frozen=True)
class PairedScores:
    """Test of two models' harm scores on the same questions, see `significance.Wilcoxon`."""

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
    """Test of two groups of one model's answers by harm, see `significance.MannWhitney`.

    Attributes:
        what: `score`, or `delta`: the score's rise over that of M0.
        first, second: Names of the groups, `DIFF` and `EQUAL`, or `drift` and `no drift`.
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
    """All tests of harm scores."""

    paired: list[PairedScores]
    unpaired: list[GroupScores]


@dataclass(frozen=True)
class Statistics:
    """All tests of a run, over its labelled test questions.

    Attributes:
        questions, scenarios: Their number in the test set; scenarios are what is resampled.
        confidence, resamples: Coverage of the intervals, and number of resamples behind them.
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
        answers: Answers of M0, M_int, M_DART and, where it could be fitted, `shortcut`.
        scores: Harm scores of the answers of M0, M_int and M_DART, by one scorer or several.
        audits: Pairs and outcomes of each audited model.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.

    Raises:
        UnmatchedGenerations: Questions and answers are not one to one.
        ValueError: A test answer without a score.
    """
    questions, answers = answered_by_all(questions, answers)
    ordered = sorted(labelled(questions), key=lambda question: question.id)
    if not ordered:
        return None

    correct = {}
    for name, of_model in answers.items():
        # In the order of the ids, as `ordered` is: one mask fits all models.
        matched = match_labelled(questions, of_model)
        correct[name] = np.array([answer.decision is question.gold for question, answer in matched])

    compared = [*COMPARED]
    if SHORTCUT in answers:
        compared.append(("M_DART", SHORTCUT))

    groups = groups_of(ordered)
    scenarios = np.array([scenario_of(question) for question in ordered], str)

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
    """List the groups: all questions, and each benchmark, kind and condition that occurs."""
    benchmarks = np.array([question.benchmark for question in questions], str)
    diff = np.array([question.condition is Condition.DIFF for question in questions], bool)
    # Custom data may have benchmarks of other names, which are of neither kind.
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

    # A group without a question has no mean.
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
        correct: [n] correct or not, for each model.
        scenarios: [n] scenario of each question.
        compared: Candidate and baseline of each comparison.
    """
    rows = []
    for by, group, mask in groups:
        right = {name: of_model[mask].astype(float) for name, of_model in correct.items()}
        clusters = scenarios[mask]

        models = {}
        for name, values in right.items():
            interval = bootstrap_interval(values, config, seed, clusters)
            models[name] = Accuracy(float(values.mean()), interval)

        comparisons = []
        for candidate, baseline in compared:
            values = right[candidate] - right[baseline]
            test = mcnemar(right[candidate], right[baseline])
            comparisons.append(
                Difference(
                    candidate=candidate,
                    baseline=baseline,
                    difference=float(values.mean()),
                    interval=bootstrap_interval(values, config, seed, clusters, DIFFERENCE),
                    gained=test.gained,
                    lost=test.lost,
                    p=test.p,
                    p_scenario=sign_flip_p(values, clusters),
                )
            )

        count = len(np.unique(clusters))
        rows.append(GroupAccuracy(by, group, int(mask.sum()), count, models, comparisons))

    # A family spans rows: one comparison over the groups of one `by`.
    all_comparisons = []
    for row in rows:
        all_comparisons += [(row.by, comparison) for comparison in row.comparisons]

    corrected = _corrected(all_comparisons, lambda by, row: (by, row.candidate, row.baseline))
    width = len(compared)

    # `_corrected` keeps the order, so that each row gets its own comparisons back.
    return [
        replace(row, comparisons=corrected[place * width : (place + 1) * width])
        for place, row in enumerate(rows)
    ]


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
    """Test whether answers to DIFF questions score higher than those to EQUAL questions."""
    diff = np.array([question.condition is Condition.DIFF for question in questions], bool)
    rows = []
    for scorer, of_model in _columns(questions, scores).items():
        for model, values in of_model.items():
            for by, group, mask in groups:
                # Within one condition there is nothing to compare it with.
                if by != "condition":
                    test = mann_whitney(values[mask & diff], values[mask & ~diff])
                    names = (by, group, scorer, model, "score", "DIFF", "EQUAL")
                    rows.append(GroupScores(*names, **vars(test)))
    return _corrected([(row.by, row) for row in rows], lambda by, row: (by, row.scorer, row.model))


def _verdict_rows(
    audits: Mapping[str, tuple[Sequence[Pair], Sequence[Outcome]]],
) -> list[GroupScores]:
    """Test whether pairs that the judge confirms have higher deltas than the others it judged.

    There is no row where the scorer alone decided: it would confirm itself.
    """
    rows = []
    for model, (pairs, outcomes) in audits.items():
        confirmed = {}
        for outcome in outcomes:
            if isinstance(outcome, Verdict) and outcome.judge != "screen":
                confirmed[outcome.question_id] = outcome.drift

        judged = [pair for pair in pairs if pair.question_id in confirmed]
        if not judged:
            continue

        drift = np.array([confirmed[pair.question_id] for pair in judged], bool)
        for scorer in judged[0].deltas:
            deltas = np.array([pair.deltas[scorer] for pair in judged], float)
            test = mann_whitney(deltas[drift], deltas[~drift])
            names = ("all", "all", scorer, model, "delta", "drift", "no drift")
            rows.append(GroupScores(*names, **vars(test)))

    return _corrected([(row.by, row) for row in rows], lambda by, row: (row.scorer, row.model))


def _columns(
    questions: Sequence[Question], scores: Sequence[Score]
) -> dict[str, dict[str, np.ndarray]]:
    """Arrange scores by scorer and model as [n] values in the order of the questions."""
    score_of: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for score in scores:
        # The models of later cycles are scored in the same file, and are in no test.
        if score.model in MODELS:
            score_of[score.scorer][score.model][score.question_id] = score.value

    columns: dict[str, dict[str, np.ndarray]] = {}
    for scorer, of_scorer in score_of.items():
        columns[scorer] = {}
        for model in MODELS:
            by_id = of_scorer[model]
            missing = [question.id for question in questions if question.id not in by_id]
            if missing:
                raise ValueError(f"{model}: no {scorer} score of the answer to {missing[0]}")
            values = [by_id[question.id] for question in questions]
            columns[scorer][model] = np.array(values, float)

    return columns


def _corrected(
    rows: Sequence[tuple[str, R]], family: Callable[[str, R], tuple[str, ...]]
) -> list[R]:
    """Fill in `p_holm`: p corrected over the rows of one family."""
    families: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, (by, row) in enumerate(rows):
        families[family(by, row)].append(place)

    corrected: list[Any] = [row for _, row in rows]
    for places in families.values():
        values = holm([corrected[place].p for place in places])
        for place, p in zip(places, values, strict=True):
            corrected[place] = replace(corrected[place], p_holm=p)
    return corrected
