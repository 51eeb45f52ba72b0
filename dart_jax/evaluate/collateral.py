"""Measure what else the repair changed: answers where M_int had not drifted, beside the others.

A repair should change the answers that drifted and no others. For both kinds of question this
measures how many answers stay as they were, word for word, how far the first words' probabilities
moved, and how much longer the answers became.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dart_jax.evaluate.bootstrap import (
    SHARE,
    agreed_interval,
    bootstrap_interval,
    percentiles,
    resampled_clusters,
)
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.drift_change import Drifted
from dart_jax.evaluate.metrics import answered_by_all, estimate, match_answers, scenario_of
from dart_jax.evaluate.significance import sign_flip_p
from dart_jax.records import Generation, Question
from dart_jax.summaries import Bounds, Estimate


@dataclass(frozen=True)
class AnswerChange:
    """M_DART's answers to some questions beside M_int's. Intervals resample whole scenarios.

    Attributes:
        n: Number of questions.
        same: Share of the answers that are the same, word for word.
        kl: KL(M_int || M_DART) of the first tokens of M_int's answer, mean over questions, in nats
            a token; None where it was not computed.
        tokens: Mean length of an answer by model, in tokens; empty over no questions.
        longer: Tokens by which M_DART's answer is longer, mean over questions.
        longer_p: Exact sign-flip test of that difference, with the scenario as its unit.
    """

    n: int
    same: Estimate
    kl: Estimate | None
    tokens: dict[str, float]
    longer: Estimate
    longer_p: float


@dataclass(frozen=True)
class Collateral:
    """Changes of the answers to test questions, by whether M_int's answer had drifted.

    Attributes:
        first_tokens: Number of first tokens that `kl` is over, where an answer has as many.
        not_drifted: Answers of M_int without confirmed drift.
        drifted: Those with confirmed drift.
        undecided: Questions on which the audit of M_int reached no verdict; they are among
            `not_drifted`, since nothing was confirmed.
        same_gap: Share of the same answers without drift, less that with drift.
        same_p: Fisher's exact test of that difference, with the question as its unit; None where
            one kind of question is missing.
    """

    first_tokens: int
    not_drifted: AnswerChange
    drifted: AnswerChange
    undecided: int
    same_gap: Estimate
    same_p: float | None


@dataclass(frozen=True)
class _Answers:
    """One value for each question, in the order of the ids; `kl` is None where not computed."""

    same: np.ndarray
    before: np.ndarray
    after: np.ndarray
    kl: np.ndarray | None
    scenarios: np.ndarray

    def where(self, chosen: np.ndarray) -> _Answers:
        """Select the questions where `chosen` [n] is true."""
        kl = None if self.kl is None else self.kl[chosen]
        rest = (self.same, self.before, self.after)
        return _Answers(*(values[chosen] for values in rest), kl, self.scenarios[chosen])


def collateral(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    drifted: Drifted,
    kl: Mapping[str, float],
    config: EvaluateConfig,
    seed: int,
) -> Collateral:
    """Compare the answers of M_int and M_DART, with and without confirmed drift of M_int's.

    Args:
        questions: The test questions; those whose prompt left no room are left out.
        answers: Answers of M_int and M_DART, by name; others are ignored.
        drifted: Of M_int's answers.
        kl: By question id, see `AnswerChange`; empty where it was not computed.
        config: Number of resamples and coverage of the intervals, and of first tokens of `kl`.
        seed: Seed of the resampling.
    """
    compared = {name: answers[name] for name in ("M_int", "M_DART")}
    asked, compared = answered_by_all(questions, compared)
    # By id: the resamples do not depend on the order of the input.
    asked = sorted(asked, key=lambda question: question.id)
    measured = _measured(asked, compared, kl)
    had_drift = np.array([drifted[question.id] is True for question in asked], bool)

    return Collateral(
        first_tokens=config.first_tokens,
        not_drifted=_change(measured.where(~had_drift), config, seed),
        drifted=_change(measured.where(had_drift), config, seed),
        undecided=sum(drifted[question.id] is None for question in asked),
        same_gap=_gap(measured, had_drift, config, seed),
        same_p=_fisher_p(measured.same, had_drift),
    )


def _measured(
    asked: Sequence[Question],
    answers: Mapping[str, Sequence[Generation]],
    kl: Mapping[str, float],
) -> _Answers:
    of_m_int = match_answers(asked, answers["M_int"])
    of_m_dart = match_answers(asked, answers["M_DART"])
    same, before, after = [], [], []
    for (_, first), (_, second) in zip(of_m_int, of_m_dart, strict=True):
        same.append(first.text == second.text)
        before.append(first.new_tokens)
        after.append(second.new_tokens)

    return _Answers(
        np.array(same, float),
        np.array(before, float),
        np.array(after, float),
        np.array([kl[question.id] for question in asked], float) if kl else None,
        np.array([scenario_of(question) for question in asked], str),
    )


def _change(measured: _Answers, config: EvaluateConfig, seed: int) -> AnswerChange:
    clusters, longer = measured.scenarios, measured.after - measured.before
    shares = bootstrap_interval(measured.same, config, seed, clusters)
    count = len(longer)
    lengths = {"M_int": measured.before, "M_DART": measured.after} if count else {}

    return AnswerChange(
        n=count,
        same=estimate(float(measured.same.mean()) if count else None, shares),
        kl=None if measured.kl is None else _mean(measured.kl, clusters, config, seed),
        tokens={name: float(values.mean()) for name, values in lengths.items()},
        longer=_mean(longer, clusters, config, seed),
        longer_p=sign_flip_p(longer, clusters),
    )


def _mean(values: np.ndarray, clusters: np.ndarray, config: EvaluateConfig, seed: int) -> Estimate:
    """Estimate a mean of values that have no greatest possible one."""
    if not len(values):
        return Estimate(None)
    # Where nothing varies, an interval would need to know how far an unseen value might lie.
    if np.all(values == values[0]):
        return Estimate(float(values[0]))
    return estimate(float(values.mean()), bootstrap_interval(values, config, seed, clusters))


def _gap(measured: _Answers, had_drift: np.ndarray, config: EvaluateConfig, seed: int) -> Estimate:
    """Compute how much larger the share of same answers is where there was no drift."""
    if had_drift.all() or not had_drift.any():
        return Estimate(None)

    same, clusters = measured.same, measured.scenarios
    groups = (measured.where(~had_drift), measured.where(had_drift))
    value = float(groups[0].same.mean() - groups[1].same.mean())
    if all(np.all(group.same == group.same[0]) for group in groups):
        return estimate(value, _agreed_gap(*groups, config.confidence))

    _, index = np.unique(clusters, return_inverse=True)
    sums = []
    for values in (same * ~had_drift, ~had_drift, same * had_drift, had_drift):
        sums.append(np.bincount(index, weights=values))

    gaps = []
    for drawn in resampled_clusters(len(sums[0]), config, seed):
        in_resample = [of_cluster[drawn].sum(axis=1) for of_cluster in sums]
        same_without, without, same_with, with_drift = in_resample
        # A resample in which one kind of question is missing has no gap.
        both = (without > 0) & (with_drift > 0)
        gaps.append(same_without[both] / without[both] - same_with[both] / with_drift[both])

    drawn_gaps = np.concatenate(gaps)
    return estimate(value, percentiles(drawn_gaps, config.confidence) if len(drawn_gaps) else None)


def _agreed_gap(without: _Answers, with_drift: _Answers, confidence: float) -> Bounds:
    """Bound the gap where each side is all or nothing: every resample would say the same."""
    ends = []
    for group in (without, with_drift):
        count = len(np.unique(group.scenarios))
        ends.append(agreed_interval(float(group.same[0]), count, confidence, SHARE))
    (low, high), (low_with, high_with) = ends
    return low - high_with, high - low_with


def _fisher_p(same: np.ndarray, had_drift: np.ndarray) -> float | None:
    from scipy.stats import fisher_exact

    if had_drift.all() or not had_drift.any():
        return None
    table = []
    for group in (same[~had_drift], same[had_drift]):
        table.append([int(group.sum()), int(len(group) - group.sum())])
    return float(fisher_exact(table).pvalue)
