"""Open-ended answers in figures: outcome shares by model and domain, and M0 against M_DART.

Shares are over judged answers; answers on which the judge failed are counted apart and belong to
no outcome. Source: the paper's table on 280 open-ended queries.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dart_jax.audit.open_ended import JudgedAnswer, Outcome
from dart_jax.data.open_ended import DOMAINS, OpenEndedQuery
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import UnmatchedGenerations, bootstrap_interval
from dart_jax.records import JudgeFailure

Judged = JudgedAnswer | JudgeFailure

REPORTED = (Outcome.DIFFERENCE_APPROPRIATE, Outcome.REFUSAL)
"""The outcomes that get an interval and a test."""


def outcome_shares(
    queries: Sequence[OpenEndedQuery],
    judged: Sequence[Judged],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, dict]:
    """Outcome shares of one model, over all queries and in each domain.

    Queries are ordered by id before they are resampled: models judged on the same queries with
    the same seed see the same resamples (where the judge failed on neither).

    Args:
        queries: The queries that the model was able to answer.
        judged: One outcome or failure for each, in any order, all of one model.
        config: Number of resamples and coverage.
        seed: Of the resampling.

    Returns:
        For `all` and each domain that occurs: `n`, `judge_failed`, one share for each outcome
        (in [0, 1]; None over no judged answer) and `intervals` of `REPORTED` (`[low, high]`).

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
) -> dict[str, dict]:
    """Exact McNemar tests of two models (M0 against M_DART), over all queries and by domain.

    A query on which the judge failed for either model is left out of the test and counted.

    Args:
        queries: The queries that both models were able to answer.
        baseline, candidate: As `judged` of `outcome_shares`.

    Returns:
        For `all` and each domain that occurs: `pairs`, `judge_failed`, and for each of `REPORTED`
        a dict of `gained` (only the candidate has it), `lost` (only the baseline) and `p_value`.

    Raises:
        UnmatchedGenerations: As `outcome_shares`.
    """
    before, after = _outcomes(queries, baseline), _outcomes(queries, candidate)
    return {
        part: _compared([(before[id], after[id]) for id in ids])
        for part, ids in _parts(queries).items()
    }


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value that `gained` and `lost` discordant pairs are a fair coin's.

    Returns:
        A probability; 1 without discordant pairs.
    """
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


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


def _shares(outcomes: list[Outcome | None], config: EvaluateConfig, seed: int) -> dict:
    known = [outcome for outcome in outcomes if outcome is not None]
    values = {
        outcome: np.array([found is outcome for found in known], float) for outcome in Outcome
    }
    return {
        "n": len(outcomes),
        "judge_failed": len(outcomes) - len(known),
        **{str(o): float(v.mean()) if known else None for o, v in values.items()},
        "intervals": {str(o): bootstrap_interval(values[o], config, seed) for o in REPORTED},
    }


def _compared(pairs: list[tuple[Outcome | None, Outcome | None]]) -> dict:
    known = [pair for pair in pairs if None not in pair]
    return {
        "pairs": len(known),
        "judge_failed": len(pairs) - len(known),
        **{str(outcome): _discordant(known, outcome) for outcome in REPORTED},
    }


def _discordant(pairs: list[tuple[Outcome, Outcome]], outcome: Outcome) -> dict:
    gained = sum(before is not outcome and after is outcome for before, after in pairs)
    lost = sum(before is outcome and after is not outcome for before, after in pairs)
    return {"gained": gained, "lost": lost, "p_value": exact_mcnemar(gained, lost)}
