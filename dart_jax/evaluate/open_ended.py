"""Outcome shares of open-ended answers by model and domain, and tests of M0 against M_DART.

Shares are over judged answers; answers on which the judge failed are counted separately and
belong to no outcome. Source: the paper's table on 280 open-ended queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dart_jax.audit.open_ended import JudgedAnswer, Outcome
from dart_jax.data.open_ended import DOMAINS, OpenEndedQuery
from dart_jax.evaluate.bootstrap import bootstrap_interval
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import UnmatchedGenerations, estimate
from dart_jax.evaluate.significance import McNemar, mcnemar
from dart_jax.records import JudgeFailure
from dart_jax.summaries import Bounds, Estimate

OPEN_ENDED = "open_ended/summary.json"
"""Path of the file in a run's folder."""

Judged = JudgedAnswer | JudgeFailure

REPORTED = (Outcome.DIFFERENCE_APPROPRIATE, Outcome.REFUSAL)
"""The outcomes that get an interval and a test."""


@dataclass(frozen=True)
class OutcomeShares:
    """Outcomes of one model's answers; shares are over judged answers, None where there are none.

    Attributes:
        n, judge_failed: Number of queries, and of those on which the judge failed.
        intervals: Intervals of the shares of REPORTED.
    """

    n: int
    judge_failed: int
    difference_appropriate: float | None
    refusal: float | None
    wrongly_uniform: float | None
    wrongly_differentiated: float | None
    intervals: dict[str, Bounds | None]

    def estimate(self, outcome: str) -> Estimate:
        """Return a share, with its interval where it has one."""
        return estimate(getattr(self, outcome), self.intervals.get(outcome))


@dataclass(frozen=True)
class OutcomeTests:
    """Tests of two models on the same queries.

    Attributes:
        pairs, judge_failed: Number of queries in the tests, and of those left out because the judge
            failed.
    """

    pairs: int
    judge_failed: int
    difference_appropriate: McNemar
    refusal: McNemar


@dataclass(frozen=True)
class OpenEndedSummary:
    """The figures of a run on open-ended queries, `open_ended/summary.json`.

    Attributes:
        queries: Number of queries.
        no_room: Number of those that left no room for an answer; they are in no other figure.
        adapters: Hash of each model's adapter.
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
    """Compute one model's outcome shares over all queries and in each domain that occurs.

    Queries are ordered by id before they are resampled: models judged on the same queries with
    the same seed see the same resamples (where the judge failed on neither).

    Args:
        queries: The queries that the model was able to answer.
        judged: One outcome or failure for each query, in any order, all of one model.
        config: Number of resamples and coverage of the intervals.
        seed: Seed of the resampling.

    Raises:
        UnmatchedGenerations: Queries and judgements are not one to one, or of several models.
    """
    outcomes = _outcomes(queries, judged)
    shares = {}
    for part, ids in _parts(queries).items():
        shares[part] = _shares([outcomes[id] for id in ids], config, seed)
    return shares


def compare_outcomes(
    queries: Sequence[OpenEndedQuery], baseline: Sequence[Judged], candidate: Sequence[Judged]
) -> dict[str, OutcomeTests]:
    """Run McNemar tests of two models over all queries and in each domain that occurs.

    A query on which the judge failed for either model is left out of the test and counted.

    Args:
        queries: The queries that both models were able to answer.
        baseline, candidate: Judged answers of each model, as for `outcome_shares`.

    Raises:
        UnmatchedGenerations: As `outcome_shares`.
    """
    before = _outcomes(queries, baseline)
    after = _outcomes(queries, candidate)
    tests = {}
    for part, ids in _parts(queries).items():
        tests[part] = _compared([(before[id], after[id]) for id in ids])
    return tests


def _outcomes(
    queries: Sequence[OpenEndedQuery], judged: Sequence[Judged]
) -> Mapping[str, Outcome | None]:
    """Map query ids to outcomes; None where the judge failed."""
    rows = [_row(item) for item in judged]
    query_ids = sorted(query.id for query in queries)
    judged_ids = sorted(id for id, _, _ in rows)

    if query_ids != judged_ids or len(set(query_ids)) != len(query_ids):
        unmatched = sorted(set(query_ids) ^ set(judged_ids))[:5]
        raise UnmatchedGenerations(
            f"{len(query_ids)} queries and {len(judged_ids)} judgements are not one to one"
            + (f": {', '.join(unmatched)}" if unmatched else ": an id comes twice")
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
    """List the sorted ids of all queries and of each domain that occurs."""
    parts = {"all": sorted(query.id for query in queries)}
    for domain in DOMAINS:
        parts[domain] = sorted(query.id for query in queries if query.domain == domain)
    return {part: ids for part, ids in parts.items() if ids}


def _shares(outcomes: list[Outcome | None], config: EvaluateConfig, seed: int) -> OutcomeShares:
    judged = [outcome for outcome in outcomes if outcome is not None]

    shares: dict[str, float | None] = {}
    intervals: dict[str, Bounds | None] = {}
    for outcome in Outcome:
        is_outcome = np.array([of_answer is outcome for of_answer in judged], float)
        shares[str(outcome)] = float(is_outcome.mean()) if judged else None
        if outcome in REPORTED:
            intervals[str(outcome)] = bootstrap_interval(is_outcome, config, seed)

    judge_failed = len(outcomes) - len(judged)
    return OutcomeShares(n=len(outcomes), judge_failed=judge_failed, intervals=intervals, **shares)


def _compared(pairs: list[tuple[Outcome | None, Outcome | None]]) -> OutcomeTests:
    # A test is paired: without one of the two outcomes a query is in neither count.
    judged = [pair for pair in pairs if None not in pair]
    tests = {}
    for outcome in REPORTED:
        baseline = np.array([pair[0] is outcome for pair in judged], bool)
        candidate = np.array([pair[1] is outcome for pair in judged], bool)
        tests[str(outcome)] = mcnemar(candidate, baseline)
    return OutcomeTests(pairs=len(judged), judge_failed=len(pairs) - len(judged), **tests)
