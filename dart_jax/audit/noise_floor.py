"""How often sampling noise alone passes the screen: M0 against M0 under other seeds.

The delta of two answers that the same model gave to one question under independent noise has the
null distribution: whatever exceeds tau there is a false positive. It is the most that noise can
do, since in an audit both sides of a pair share their noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dart_jax.audit.scorers import ANY

GRID = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
LEVELS = (0.05, 0.01)
RESAMPLES = 1000


def noise_floor(
    scores: Mapping[str, Float[np.ndarray, "questions seeds"]],
    tau: float,
    screen_by: str = ANY,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """False-positive rates of the screen over a grid of thresholds, and thresholds by rate.

    Args:
        scores: By scorer: harm of M0's answers, in [0, 1]. Two seeds or more.
        tau: The screen's threshold; it joins the grid.
        screen_by: The scorer that screens, or `any`; the last then gets rates of its own.
        confidence: Coverage of the intervals, which take the question as the unit.

    Returns:
        `tau`; `screen`: which row of `scorers` is the screen's; `scorers`: by name, `rates`, a
        list of `{tau, rate, low, high}`, and `thresholds`, a list of `{level, tau, low, high}`
        with the least tau whose rate is at most the level. A threshold is None where there are
        fewer questions than 1 / level, which cannot show so small a rate.

    Raises:
        ValueError: fewer than two questions or two seeds, or a scorer that is not there.
    """
    if screen_by not in (ANY, *scores):
        raise ValueError(f"audit.screen_by is {screen_by}, scored was with {', '.join(scores)}")
    deltas = {name: null_deltas(values) for name, values in scores.items()}
    screen = next(iter(scores)) if len(scores) == 1 else screen_by
    if screen == ANY:
        deltas[ANY] = np.maximum.reduce(list(deltas.values()))
    grid = sorted({*GRID, tau})
    return {
        "tau": tau,
        "screen": screen,
        "confidence": confidence,
        "scorers": {
            name: {
                "rates": [_rate(of_scorer, at, confidence) for at in grid],
                "thresholds": [_threshold(of_scorer, level, confidence) for level in LEVELS],
            }
            for name, of_scorer in deltas.items()
        },
    }


def null_deltas(
    scores: Float[np.ndarray, "questions seeds"],
) -> Float[np.ndarray, "questions pairs"]:
    """score(j) - score(i) of every ordered pair of seeds: either may play the candidate.

    Example:
        Scores 0.1, 0.4 of one question under two seeds give 0.3 and -0.3.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or scores.shape[0] < 2 or scores.shape[1] < 2:
        raise ValueError(
            f"noise needs two questions and two seeds or more, the scores have {scores.shape}"
        )
    first, second = zip(*_ordered_pairs(scores.shape[1]), strict=True)
    return scores[:, list(second)] - scores[:, list(first)]


def rate_at(report: Mapping[str, Any], scorer: str | None = None) -> Mapping[str, float]:
    """The `{tau, rate, low, high}` at the screen's tau, of the screen or of one scorer."""
    rates = report["scorers"][scorer or report["screen"]]["rates"]
    return next(row for row in rates if row["tau"] == report["tau"])


def _ordered_pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(count) if i != j)


def _rate(
    deltas: Float[np.ndarray, "questions pairs"], tau: float, confidence: float
) -> dict[str, float]:
    """Share of deltas above tau, with Korn and Graubard's interval for clustered data [1998].

    That is Clopper and Pearson's, exact for a proportion, at the effective sample size: the
    number of independent deltas that would vary as much as the questions do. Where no delta
    exceeds tau, or all do, nothing varies, and each question counts once.
    """
    from scipy.stats import beta

    by_question = (deltas > tau).mean(axis=1)
    rate, questions = float(by_question.mean()), len(by_question)
    variance = by_question.var(ddof=1) / questions
    count = min(rate * (1 - rate) / variance, deltas.size) if variance > 0 else questions
    outside, hits = (1 - confidence) / 2, rate * count
    low = float(beta.ppf(outside, hits, count - hits + 1)) if rate > 0 else 0.0
    high = float(beta.ppf(1 - outside, hits + 1, count - hits)) if rate < 1 else 1.0
    return {"tau": tau, "rate": rate, "low": low, "high": high}


def _threshold(
    deltas: Float[np.ndarray, "questions pairs"], level: float, confidence: float
) -> dict[str, float | None]:
    """The least tau with a rate of at most `level`; percentile bootstrap over questions."""
    from scipy.stats import bootstrap

    if len(deltas) * level < 1:
        return {"level": level, "tau": None, "low": None, "high": None}

    def least_tau(questions: Sequence[int]) -> float:
        # The inverted CDF: the least observed delta with at most this share strictly above it.
        picked = deltas[np.asarray(questions, int)]
        return float(np.quantile(picked, 1 - level, method="inverted_cdf"))

    questions = np.arange(len(deltas))
    tau = low = high = least_tau(questions)
    if deltas.min() < deltas.max():
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
    return {"level": level, "tau": tau, "low": low, "high": high}
