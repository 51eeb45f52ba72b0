"""Share of pairs that sampling noise alone takes past the screen: M0 against itself, reseeded.

The delta of two answers that the same model gave to one question under independent noise has the
null distribution: whatever exceeds tau there is a false positive. This is an upper bound for noise,
since in an audit both sides of a pair share theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dart_jax.audit.scorers import ANY

GRID = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
LEVELS = (0.05, 0.01)
AUTO_LEVEL = LEVELS[0]
"""The share of null deltas above tau with `audit.tau: auto`."""
RESAMPLES = 1000

TAU = "audit/tau.json"
"""Path in a run's folder of the calibration that `audit.tau: auto` was set by."""


@dataclass(frozen=True)
class FalsePositives:
    """The share of null deltas above a threshold, with its interval; all in [0, 1]."""

    tau: float
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Threshold:
    """The least tau whose rate of false positives is at most `level`, with its interval.

    `tau`, `low` and `high` are None where there are fewer questions than 1 / level, which cannot
    show so small a rate.
    """

    level: float
    tau: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ScorerNoise:
    """False-positive rates of one scorer over a grid of thresholds, and thresholds by rate."""

    rates: list[FalsePositives]
    thresholds: list[Threshold]


@dataclass(frozen=True)
class NoiseFloor:
    """False positives of the screen under sampling noise alone.

    Attributes:
        tau: The screen's threshold.
        screen: Name in `scorers` of the scorer that screens.
        confidence: Coverage of the intervals, whose unit is the question.
    """

    tau: float
    screen: str
    confidence: float
    scorers: dict[str, ScorerNoise]

    def at_tau(self, scorer: str | None = None) -> FalsePositives:
        """Return the rate at the screen's tau, of the screen or of one scorer."""
        rates = self.scorers[scorer or self.screen].rates
        # Exact numbers may be compared: `noise_floor` put this very tau into the grid.
        return next(row for row in rates if row.tau == self.tau)


@dataclass(frozen=True)
class Calibration(NoiseFloor):
    """The noise floor of a run: `audit/calibration.json`, and `audit/tau.json` where tau is auto.

    Attributes:
        questions: Number of drift-pool questions that M0 answered.
        no_room: Number of further ones, whose prompt left no room for an answer.
        seeds: Seeds under which M0 answered each question.
        versions: Version of each scorer.
        scores: Harm scores by scorer, [questions][seeds].
    """

    questions: int
    no_room: int
    seeds: list[int]
    versions: dict[str, str]
    scores: dict[str, list[list[float]]]

    @property
    def pairs(self) -> int:
        """Number of pairs of M0 with itself; two seeds make two, since either may be first."""
        return self.questions * len(self.seeds) * (len(self.seeds) - 1)

    def screen_deltas(self) -> Float[np.ndarray, " deltas"]:
        """Compute the null deltas of the scorer that screens."""
        by_scorer = {name: null_deltas(np.array(rows)) for name, rows in self.scores.items()}
        if self.screen == ANY:
            return np.maximum.reduce(list(by_scorer.values())).ravel()
        return by_scorer[self.screen].ravel()


def noise_floor(
    scores: Mapping[str, Float[np.ndarray, "questions seeds"]],
    tau: float,
    screen_by: str = ANY,
    confidence: float = 0.95,
) -> NoiseFloor:
    """Compute false-positive rates over a grid of thresholds, and thresholds by rate.

    Args:
        scores: Harm of M0's answers by scorer, in [0, 1], under two seeds or more.
        tau: The screen's threshold; it joins the grid.
        screen_by: The scorer that screens, or `any`, which then gets separate rates.
        confidence: Coverage of the intervals.

    Raises:
        ValueError: There are fewer than two questions or two seeds, or no scores by `screen_by`.
    """
    screen, deltas = _deltas_by_scorer(scores, screen_by)
    grid = sorted({*GRID, tau})
    scorers = {}
    for name, of_scorer in deltas.items():
        scorers[name] = ScorerNoise(
            rates=[_rate(of_scorer, at, confidence) for at in grid],
            thresholds=[_threshold(of_scorer, level, confidence) for level in LEVELS],
        )

    return NoiseFloor(tau, screen, confidence, scorers)


def auto_tau(scores: Mapping[str, Float[np.ndarray, "questions seeds"]], screen_by: str) -> float:
    """Find the least threshold that at most AUTO_LEVEL of the screen's null deltas exceed.

    A delta that equals it does not exceed it. It is one of the deltas, and not below 0: each pair
    counts in both orders, whose deltas differ in sign alone.

    Raises:
        ValueError: There are fewer than 1 / AUTO_LEVEL questions.
    """
    check_auto(len(next(iter(scores.values()))))
    screen, deltas = _deltas_by_scorer(scores, screen_by)
    return _least_tau(deltas[screen], AUTO_LEVEL)


def check_auto(questions: int) -> None:
    """Raise ValueError where so few questions cannot show a rate as small as AUTO_LEVEL."""
    if questions * AUTO_LEVEL < 1:
        raise ValueError(
            f"audit.tau auto: {questions} questions of the drift pool leave room for an answer, "
            f"and {100 * AUTO_LEVEL:g} % of M0's pairs with itself cannot be told from fewer than "
            f"{1 / AUTO_LEVEL:g}; give audit.tau a number, such as the paper's 0.01, or let the "
            "pool have more (audit.max_prompts, data.max_validation, data.max_train)"
        )


def _deltas_by_scorer(
    scores: Mapping[str, Float[np.ndarray, "questions seeds"]], screen_by: str
) -> tuple[str, dict[str, Float[np.ndarray, "questions pairs"]]]:
    """Compute each scorer's null deltas; the first result names those that the screen goes by."""
    if screen_by not in (ANY, *scores):
        raise ValueError(
            f"audit.screen_by is {screen_by}, but there are scores of {', '.join(scores)}"
        )

    deltas = {name: null_deltas(values) for name, values in scores.items()}
    # With one scorer, `any` is that scorer and gets no rates beside it.
    screen = next(iter(scores)) if len(scores) == 1 else screen_by
    if screen == ANY:
        # As `screen.pair_up` does: the highest delta of a pair decides.
        deltas[ANY] = np.maximum.reduce(list(deltas.values()))
    return screen, deltas


def null_deltas(
    scores: Float[np.ndarray, "questions seeds"],
) -> Float[np.ndarray, "questions pairs"]:
    """Compute score(j) - score(i) of every ordered pair of seeds: either may be the candidate.

    Example:
        Scores 0.1, 0.4 of one question under two seeds give 0.3 and -0.3.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or scores.shape[0] < 2 or scores.shape[1] < 2:
        raise ValueError(
            f"a noise floor needs two questions and two seeds or more, not scores of {scores.shape}"
        )

    orders = list(itertools.permutations(range(scores.shape[1]), 2))
    first = [i for i, _ in orders]
    second = [j for _, j in orders]
    return scores[:, second] - scores[:, first]


def _rate(
    deltas: Float[np.ndarray, "questions pairs"], tau: float, confidence: float
) -> FalsePositives:
    """Compute the share of deltas above tau, with Korn and Graubard's interval for clusters [1998].

    It is Clopper and Pearson's interval, exact for a proportion, at the effective sample size: the
    number of independent deltas that would vary as much as the questions do. Where no delta
    exceeds tau, or all do, nothing varies, and each question counts once.
    """
    from scipy.stats import beta

    by_question = (deltas > tau).mean(axis=1)
    rate, questions = float(by_question.mean()), len(by_question)
    variance = by_question.var(ddof=1) / questions
    # Of a pair's two orders only one can exceed a tau of 0 or more, so that the effective size may
    # come out above the number of deltas.
    count = min(rate * (1 - rate) / variance, deltas.size) if variance > 0 else questions

    tail = (1 - confidence) / 2
    hits = rate * count
    # At a rate of 0 or 1 a parameter of the distribution is 0, and its quantile is NaN.
    low = float(beta.ppf(tail, hits, count - hits + 1)) if rate > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if rate < 1 else 1.0

    return FalsePositives(tau, rate, low, high)


def _threshold(
    deltas: Float[np.ndarray, "questions pairs"], level: float, confidence: float
) -> Threshold:
    """Find the least tau with a rate of at most `level`; percentile bootstrap over questions."""
    from scipy.stats import bootstrap

    if len(deltas) * level < 1:  # so few questions cannot show so small a rate
        return Threshold(level, None, None, None)

    def least_tau(questions: Sequence[int]) -> float:
        return _least_tau(deltas[np.asarray(questions, int)], level)

    questions = np.arange(len(deltas))
    tau = low = high = least_tau(questions)
    if deltas.min() < deltas.max():
        # Indices are drawn, so that the deltas of a question stay together.
        interval = bootstrap(
            (questions,),
            least_tau,
            n_resamples=RESAMPLES,
            vectorized=False,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)

    return Threshold(level, tau, low, high)


def _least_tau(deltas: Float[np.ndarray, "questions pairs"], level: float) -> float:
    """Find the least observed delta with at most this share strictly above it."""
    return float(np.quantile(deltas, 1 - level, method="inverted_cdf"))
