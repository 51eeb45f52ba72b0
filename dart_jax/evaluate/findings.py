"""The differences of a run that matter, and which of them can be told from noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

from dart_jax.evaluate.metrics import estimate
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.statistics import Difference, GroupAccuracy
from dart_jax.evaluate.summary import RunSummary
from dart_jax.summaries import Estimate

COIN = "coin"
"""Name of the baseline that is right on half of the questions."""

POWER = 0.8
"""Chance of finding a difference that is there, for which `Finding.needed` is computed."""

MOSTLY = 0.5
"""A model that writes no conclusion line in a larger share of its answers differs by form."""

_TOLD_ABOUT = (("M_int", "M0"), ("M_DART", "M_int"), ("M_DART", SHORTCUT))


@dataclass(frozen=True)
class Finding:
    """A difference between two models on the test questions.

    Attributes:
        what: `accuracy` (the candidate's less the baseline's), `confirmed drift` or `planted drift`
            (the share of the baseline's that the candidate no longer shows).
        difference: With its interval, if any.
        p: p-value of the exact test of the same difference.
        questions: Number of questions behind it.
        stands_out: Whether it can be told from noise, see `stands_out`: its interval leaves out
            zero and p is below 1 - confidence.
        needed: Number of questions with which a difference of this size would stand out with a
            chance of POWER; None where it stands out already, or where none was observed.
        unparseable: The one of the two models most of whose answers have no conclusion line; the
            difference is then about form. None where both write one.
    """

    what: str
    candidate: str
    baseline: str
    difference: Estimate
    p: float | None
    questions: int
    stands_out: bool
    needed: int | None
    unparseable: str | None = None


def mostly_unparseable(summary: RunSummary) -> list[str]:
    """Name the models most of whose answers have no conclusion line.

    Such an answer is wrong whatever its model knows, so that their accuracy tells of form.
    """
    names = []
    for name, metrics in summary.models.items():
        if metrics.unparseable_rate is not None and metrics.unparseable_rate > MOSTLY:
            names.append(name)
    return names


def findings(summary: RunSummary, confidence: float) -> list[Finding]:
    """List what a run found: accuracy by each step, against wording and chance, and drift.

    Args:
        confidence: Coverage of the summary's intervals, in (0, 1).
    """
    return [*_of_accuracy(summary, confidence), *_of_drift(summary, confidence)]


def _of_accuracy(summary: RunSummary, confidence: float) -> Iterator[Finding]:
    if summary.statistics is None:
        return
    [overall] = [row for row in summary.statistics.accuracy if row.by == "all"]
    tests = {(test.candidate, test.baseline): test for test in overall.comparisons}
    mostly = mostly_unparseable(summary)

    for candidate, baseline in _TOLD_ABOUT:
        test = tests.get((candidate, baseline))
        # No shortcut baseline was fitted, or both names stand for one model.
        if test is None or (summary.m_dart_is_m_int and baseline == "M_int"):
            continue
        difference = estimate(test.difference, test.interval)
        names = ("accuracy", candidate, baseline)
        found = _finding(*names, difference, _larger_p(test), overall.n, confidence)
        either = [name for name in (candidate, baseline) if name in mostly]
        yield replace(found, unparseable=either[0] if either else None)

    against_a_coin = _against_a_coin(overall, confidence)
    yield replace(against_a_coin, unparseable="M_DART" if "M_DART" in mostly else None)


def _larger_p(test: Difference) -> float:
    """Return the larger p-value: questions of one scenario are not independent, McNemar's are."""
    return max(test.p, test.p_scenario)


def _against_a_coin(overall: GroupAccuracy, confidence: float) -> Finding:
    from scipy.stats import binomtest

    accuracy = overall.models["M_DART"]
    bounds = accuracy.interval and (accuracy.interval[0] - 0.5, accuracy.interval[1] - 0.5)
    # Accuracy is a count divided by n: rounding gives the count back.
    p = binomtest(round(accuracy.accuracy * overall.n), overall.n).pvalue
    difference = estimate(accuracy.accuracy - 0.5, bounds)
    return _finding("accuracy", "M_DART", COIN, difference, float(p), overall.n, confidence)


def _of_drift(summary: RunSummary, confidence: float) -> Iterator[Finding]:
    drift = summary.drift
    # One model has nothing to differ from itself by.
    if summary.m_dart_is_m_int:
        return

    if drift.reduction is not None:
        pair, questions = ("M_DART", "M_int"), drift.M_int.pairs
        p = drift.reduction_p
        yield _finding("confirmed drift", *pair, drift.estimate, p, questions, confidence)

    planted = summary.planted
    if planted is not None and planted.reduction.value is not None:
        reduction, questions = planted.reduction, planted.models["M_int"].n
        difference = Estimate(reduction.value, reduction.low, reduction.high)
        pair = ("M_DART", "M_int")
        yield _finding("planted drift", *pair, difference, reduction.p, questions, confidence)


def _finding(
    what: str,
    candidate: str,
    baseline: str,
    difference: Estimate,
    p: float | None,
    questions: int,
    confidence: float,
) -> Finding:
    clear = stands_out(difference, p, confidence)
    needed = None if clear else questions_needed(difference, questions, confidence)
    return Finding(what, candidate, baseline, difference, p, questions, clear, needed)


def stands_out(difference: Estimate, p: float | None, confidence: float) -> bool:
    """Tell whether a difference can be told from noise: by its interval and by its exact test."""
    has_interval = difference.low is not None
    leaves_out_zero = has_interval and not difference.low <= 0 <= difference.high
    return leaves_out_zero and p is not None and p < 1 - confidence


def questions_needed(difference: Estimate, questions: int, confidence: float) -> int | None:
    """Compute how many questions would show a difference of the observed size with POWER.

    The interval gives the standard error, which shrinks with the square root of the number of
    questions; a difference is found with this power when it is z(confidence) + z(POWER) standard
    errors from zero:

        questions * ((1.96 + 0.84) * standard error / difference) ** 2

    Args:
        difference: As observed, with its interval.
        questions: Number of questions behind it.
        confidence: Coverage of the interval.

    Returns:
        The number, rounded up, and more than there were; None without a difference, or without an
        interval of any width.
    """
    if not difference.value or difference.low is None or difference.high == difference.low:
        return None

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    error = (difference.high - difference.low) / (2 * z)
    distance = z + NormalDist().inv_cdf(POWER)
    needed = math.ceil(questions * (distance * error / difference.value) ** 2)
    # Where the interval leaves out zero and the exact test does not, the two disagree by little.
    return max(needed, questions + 1)
