"""Which differences between the models are more than chance: the `statistics` of a summary.

    {
      "questions": 1280, "scenarios": 214,            the test set; scenarios are the clusters
      "confidence": 0.95, "resamples": 2000,          of the intervals
      "accuracy": [ROW, ...],
      "scores": {"paired": [PAIRED, ...], "unpaired": [UNPAIRED, ...]}
    }

Every row says which questions it is over: `by` (`all`, `benchmark`, `kind`, `condition`) and
`group` (`all`; `D1`, ...; `descriptive`, `normative`; `DIFF`, `EQUAL`).

    ROW       by, group, n (questions), scenarios,
              models: {"M0" | "M_int" | "M_DART" | "shortcut": {"accuracy", "interval"}},
              comparisons: [{"candidate", "baseline",
                             "difference" (of accuracies, candidate - baseline), "interval",
                             "gained" (right by the candidate only), "lost",
                             "p" (exact McNemar), "p_holm", "p_scenario" (sign flips by scenario)}]
    PAIRED    by, group, scorer, candidate, baseline, n, nonzero, mean_difference,
              effect (matched-pairs rank-biserial, positive: the candidate scores higher),
              p (Wilcoxon), p_holm
    UNPAIRED  by, group, scorer, model, what (`score`, `delta`), first, second (`DIFF`, `EQUAL`;
              `drift`, `no drift`), n_first, n_second, mean_first, mean_second,
              effect (rank-biserial, positive: the first is higher), p (Mann-Whitney), p_holm

Rates and scores are in [0, 1]. `interval` is [low, high], or null where fewer than two scenarios
leave nothing to resample; `effect`, `p` and `p_holm` of UNPAIRED are null where a side is empty.
`p_holm` is corrected over the groups of the same `by`, for one comparison. `shortcut` is the
baseline of `shortcut.py`, as a model like the others.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dart_jax.audit.screen import Pair
from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import (
    answered_by_all,
    bootstrap_interval,
    labelled,
    match_labelled,
    scenario_of,
)
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.significance import holm, mann_whitney, mcnemar, sign_flip_p, wilcoxon
from dart_jax.records import Condition, Generation, Outcome, Question, Score, Verdict

COMPARED = (("M_DART", "M0"), ("M_DART", "M_int"), ("M_int", "M0"))
"""Candidate and baseline; by accuracy also M_DART and the shortcut baseline."""

Group = tuple[str, str, np.ndarray]
"""`by`, `group` and the mask of its questions."""


def statistics(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    scores: Sequence[Score],
    audits: Mapping[str, tuple[Sequence[Pair], Sequence[Outcome]]],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any] | None:
    """All of the above, of the labelled questions that were answered; None where there are none.

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
    return {
        "questions": len(ordered),
        "scenarios": len(np.unique(scenarios)),
        "confidence": config.confidence,
        "resamples": config.bootstrap_samples,
        "accuracy": accuracy_rows(groups, correct, scenarios, (*COMPARED, *baseline), config, seed),
        "scores": {
            "paired": _paired_rows(groups, ordered, scores),
            "unpaired": [
                *_condition_rows(groups, ordered, scores),
                *_verdict_rows(audits),
            ],
        },
    }


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
) -> list[dict[str, Any]]:
    """A ROW (see above) for each group.

    Args:
        correct: [n] correct or not, by model.
        scenarios: [n] the cluster of each question.
        compared: Candidate and baseline of each comparison.
    """
    rows = []
    for by, group, mask in groups:
        own = {name: found[mask].astype(float) for name, found in correct.items()}
        clusters = scenarios[mask]

        def mean(values: np.ndarray, key: str, clusters: np.ndarray = clusters) -> dict[str, Any]:
            interval = bootstrap_interval(values, config, seed, clusters)
            return {key: float(values.mean()), "interval": interval}

        rows.append(
            {
                "by": by,
                "group": group,
                "n": int(mask.sum()),
                "scenarios": len(np.unique(clusters)),
                "models": {name: mean(values, "accuracy") for name, values in own.items()},
                "comparisons": [
                    {
                        "candidate": candidate,
                        "baseline": baseline,
                        **mean(own[candidate] - own[baseline], "difference"),
                        **mcnemar(own[candidate], own[baseline]),
                        "p_scenario": sign_flip_p(own[candidate] - own[baseline], clusters),
                    }
                    for candidate, baseline in compared
                ],
            }
        )
    comparisons = [(row["by"], each) for row in rows for each in row["comparisons"]]
    _correct(comparisons, ("candidate", "baseline"))
    return rows


def _paired_rows(
    groups: Sequence[Group], questions: Sequence[Question], scores: Sequence[Score]
) -> list[dict[str, Any]]:
    columns = _columns(questions, scores)
    rows = [
        {
            "by": by,
            "group": group,
            "scorer": scorer,
            "candidate": candidate,
            "baseline": baseline,
            **wilcoxon(of_model[candidate][mask], of_model[baseline][mask]),
        }
        for scorer, of_model in columns.items()
        for candidate, baseline in COMPARED
        for by, group, mask in groups
    ]
    return _correct([(row["by"], row) for row in rows], ("scorer", "candidate", "baseline"))


def _condition_rows(
    groups: Sequence[Group], questions: Sequence[Question], scores: Sequence[Score]
) -> list[dict[str, Any]]:
    """Do answers to DIFF questions score higher than those to EQUAL questions?"""
    diff = np.array([question.condition is Condition.DIFF for question in questions], bool)
    rows = [
        {
            "by": by,
            "group": group,
            "scorer": scorer,
            "model": model,
            "what": "score",
            "first": "DIFF",
            "second": "EQUAL",
            **mann_whitney(values[mask & diff], values[mask & ~diff]),
        }
        for scorer, of_model in _columns(questions, scores).items()
        for model, values in of_model.items()
        for by, group, mask in groups
        if by != "condition"
    ]
    return _correct([(row["by"], row) for row in rows], ("scorer", "model"))


def _verdict_rows(
    audits: Mapping[str, tuple[Sequence[Pair], Sequence[Outcome]]],
) -> list[dict[str, Any]]:
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
            rows.append(
                {
                    "by": "all",
                    "group": "all",
                    "scorer": scorer,
                    "model": model,
                    "what": "delta",
                    "first": "drift",
                    "second": "no drift",
                    **mann_whitney(deltas[drift], deltas[~drift]),
                }
            )
    return _correct([("all", row) for row in rows], ("scorer", "model"))


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


def _correct(
    rows: Sequence[tuple[str, dict[str, Any]]], family: Sequence[str]
) -> list[dict[str, Any]]:
    """Add `p_holm`: one family is the groups of one `by`, for one comparison."""
    families: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for by, row in rows:
        families[by, *(row[key] for key in family)].append(row)
    for members in families.values():
        for row, p in zip(members, holm([row["p"] for row in members]), strict=True):
            row["p_holm"] = p
    return [row for _, row in rows]
