"""Open-ended answers in figures: outcome shares by model and domain, and M0 against M_DART.

Shares are over judged answers; answers on which the judge failed are counted apart and belong to
no outcome. Source: the paper's table on 280 open-ended queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dart_jax.audit.open_ended import JudgedAnswer, Outcome
from dart_jax.data.open_ended import DOMAINS, OpenEndedQuery
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import (
    Bounds,
    UnmatchedGenerations,
    bootstrap_interval,
    estimate,
)
from dart_jax.evaluate.significance import McNemar, mcnemar
from dart_jax.records import JudgeFailure
from dart_jax.summaries import Estimate

OPEN_ENDED = "open_ended/summary.json"
"""In a run's folder."""

Judged = JudgedAnswer | JudgeFailure

REPORTED = (Outcome.DIFFERENCE_APPROPRIATE, Outcome.REFUSAL)
"""The outcomes that get an interval and a test."""


@dataclass(frozen=True)
class OutcomeShares:
    """Outcomes of one model's answers; shares are over judged answers, None where there are none.

    Attributes:
        n, judge_failed: Queries, and those on which the judge failed.
        intervals: Of REPORTED.
    """

    n: int
    judge_failed: int
    difference_appropriate: float | None
    refusal: float | None
    wrongly_uniform: float | None
    wrongly_differentiated: float | None
    intervals: dict[str, Bounds | None]

    def estimate(self, outcome: str) -> Estimate:
        """A share, with its interval where it has one."""
        return estimate(getattr(self, outcome), self.intervals.get(outcome))


@dataclass(frozen=True)
class OutcomeTests:
    """Two models on the same queries.

    Attributes:
        pairs, judge_failed: Queries in the tests, and those on which the judge failed.
    """

    pairs: int
    judge_failed: int
    difference_appropriate: McNemar
    refusal: McNemar


@dataclass(frozen=True)
class OpenEndedSummary:
    """Open-ended queries in numbers, `open_ended/summary.json`.

    Attributes:
        queries: Queries that were put.
        no_room: Those of them that left no room for an answer, which are in no other figure.
        adapters: Hash by model.
        models: Shares by model, over all queries and in each domain that occurs.
        against_M0: Tests by model, likewise.
    """

    queries: int
    no_room: int
    adapters: dict[str, str]
    judge: str
    confidence: float
    models: dict[str, dict[str, OutcomeShares]]
    against_M0: dict[str, dict[str, OutcomeTests]]


def outcome_shares(
    queries: Sequence[OpenEndedQuery],
    judged: Sequence[Judged],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, OutcomeShares]:
    """Outcome shares of one model, over all queries and in each domain that occurs.

    Queries are ordered by id before they are resampled: models judged on the same queries with
    the same seed see the same resamples (where the judge failed on neither).

    Args:
        queries: The queries that the model was able to answer.
        judged: One outcome or failure for each, in any order, all of one model.
        config: Number of resamples and coverage.
        seed: Of the resampling.

    Raises:
        UnmatchedGenerations: Queries and judgements are not one to one, or of several models.
    """
    outcomes = _outcomes(queries, judged)
    return {
        part: _shares([outcomes[id] for id in ids], config, seed)
        for part, ids in _parts(queries).items()
    }


def compare_outcomes(
    queries: Sequence[OpenEndedQuery], baseline: Sequence[Judged], candidate: Sequence[Judged]
) -> dict[str, OutcomeTests]:
    """Exact McNemar tests of two models, over all queries and in each domain that occurs.

    A query on which the judge failed for either model is left out of the test and counted.

    Args:
        queries: The queries that both models were able to answer.
        baseline, candidate: As `judged` of `outcome_shares`.

    Raises:
        UnmatchedGenerations: As `outcome_shares`.
    """
    before, after = _outcomes(queries, baseline), _outcomes(queries, candidate)
    return {
        part: _compared([(before[id], after[id]) for id in ids])
        for part, ids in _parts(queries).items()
    }


def _outcomes(
    queries: Sequence[OpenEndedQuery], judged: Sequence[Judged]
) -> Mapping[str, Outcome | None]:
    """Outcome by query id; None where the judge failed."""
    rows = [_row(item) for item in judged]
    asked, answered = sorted(query.id for query in queries), sorted(id for id, _, _ in rows)
    if asked != answered or len(set(asked)) != len(asked):
        apart = sorted(set(asked) ^ set(answered))[:5]
        raise UnmatchedGenerations(
            f"{len(asked)} queries and {len(answered)} judgements are not one to one"
            + (f": {', '.join(apart)}" if apart else ": an id comes twice")
        )

    models = sorted({model for _, model, _ in rows})
    if len(models) > 1:
        raise UnmatchedGenerations(f"judgements of several models at once: {', '.join(models)}")

    return {id: outcome for id, _, outcome in rows}


def _row(item: Judged) -> tuple[str, str, Outcome | None]:
    if isinstance(item, JudgeFailure):
        return item.question_id, item.candidate, None
    return item.query_id, item.model, item.outcome


def _parts(queries: Sequence[OpenEndedQuery]) -> dict[str, list[str]]:
    """Sorted ids of all queries and of each domain that occurs."""
    parts = {"all": sorted(query.id for query in queries)}
    for domain in DOMAINS:
        parts[domain] = sorted(query.id for query in queries if query.domain == domain)
    return {part: ids for part, ids in parts.items() if ids}


def _shares(outcomes: list[Outcome | None], config: EvaluateConfig, seed: int) -> OutcomeShares:
    known = [outcome for outcome in outcomes if outcome is not None]
    values = {}
    for outcome in Outcome:
        values[outcome] = np.array([found is outcome for found in known], float)
    return OutcomeShares(
        n=len(outcomes),
        judge_failed=len(outcomes) - len(known),
        intervals={str(o): bootstrap_interval(values[o], config, seed) for o in REPORTED},
        **{str(o): float(v.mean()) if known else None for o, v in values.items()},
    )


def _compared(pairs: list[tuple[Outcome | None, Outcome | None]]) -> OutcomeTests:
    known = [pair for pair in pairs if None not in pair]
    tests = {}
    for outcome in REPORTED:
        before = np.array([pair[0] is outcome for pair in known], bool)
        after = np.array([pair[1] is outcome for pair in known], bool)
        tests[str(outcome)] = mcnemar(after, before)
    return OutcomeTests(pairs=len(known), judge_failed=len(pairs) - len(known), **tests)
