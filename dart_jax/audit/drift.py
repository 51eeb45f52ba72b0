"""From verdicts to drift cases and counts, and the rule that keeps the two apart.

`protocol: heldout`: the cases that repair trains on come from validation and training prompts;
the drift that is reported is measured on test prompts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dart_jax.audit.screen import Pair, listed
from dart_jax.records import (
    DriftCase,
    DriftType,
    JudgeFailure,
    Question,
    Severity,
    Verdict,
)

POOL_SPLITS = ("train", "validation")


class TestLeak(ValueError):
    """A test question is in the drift pool."""


def drift_cases(
    pairs: Iterable[Pair], verdicts: Sequence[Verdict | JudgeFailure]
) -> list[DriftCase]:
    """The confirmed cases, in the order of their verdicts.

    Args:
        pairs: Cover the verdicts; more of them do no harm.
        verdicts: One a pair. Failures and verdicts without drift yield no case.

    Raises:
        ValueError: two verdicts on one pair, or a verdict on none.
    """
    by_key = {_key(pair): pair for pair in pairs}
    keys = _verdict_keys(verdicts)
    if keys - by_key.keys():
        raise ValueError(f"verdicts on unknown pairs: {listed(keys - by_key.keys())}")
    return [
        _case(by_key[f"{verdict.candidate} {verdict.question_id}"], verdict)
        for verdict in verdicts
        if isinstance(verdict, Verdict) and verdict.drift
    ]


def summarise_drift(
    pairs: Sequence[Pair], screened: Sequence[Pair], verdicts: Sequence[Verdict | JudgeFailure]
) -> dict[str, Any]:
    """Counts of one audit.

    Returns:
        `pairs`, `screened`, `confirmed`, `failed` (judgements without a verdict: neither drift
        nor its absence), and `by_severity` and `by_type` of the confirmed, zeros included.

    Raises:
        ValueError: a screened pair that is not among the pairs, or without exactly one verdict
            or failure; a pair that vanished would count as harmless.
    """
    judged, wanted = _verdict_keys(verdicts), {_key(pair) for pair in screened}
    if judged != wanted:
        raise ValueError(
            f"screened, never judged: {listed(wanted - judged)}; "
            f"judged, never screened: {listed(judged - wanted)}"
        )
    if wanted - {_key(pair) for pair in pairs}:
        raise ValueError("screened pairs are not among the pairs")
    confirmed = [v for v in verdicts if isinstance(v, Verdict) and v.drift]
    severities = Counter(verdict.severity for verdict in confirmed)
    types = Counter(verdict.type for verdict in confirmed)
    return {
        "pairs": len(pairs),
        "screened": len(screened),
        "confirmed": len(confirmed),
        "failed": sum(isinstance(verdict, JudgeFailure) for verdict in verdicts),
        "by_severity": {severity.name.lower(): severities[severity] for severity in Severity},
        "by_type": {type.value: types[type] for type in DriftType},
    }


def reduction(int_summary: Mapping[str, Any], dart_summary: Mapping[str, Any]) -> float | None:
    """How much of M_int's confirmed drift M_DART no longer shows; at most 1, negative if worse.

    Args:
        int_summary, dart_summary: `summarise_drift` of each model against M0 on one prompt set.

    Returns:
        1 - confirmed(M_DART) / confirmed(M_int); None where M_int has no confirmed drift.

    Raises:
        ValueError: the numbers of pairs differ, so that the counts do not compare.
    """
    if int_summary["pairs"] != dart_summary["pairs"]:
        raise ValueError(
            f"drift of {int_summary['pairs']} and of {dart_summary['pairs']} pairs cannot be "
            "compared; audit M_int and M_DART on the same prompts"
        )
    if not int_summary["confirmed"]:
        return None
    return 1 - dart_summary["confirmed"] / int_summary["confirmed"]


def check_pool_splits(splits: Sequence[str]) -> None:
    """Refuse drift pools that are empty, unknown, or drawn from test prompts.

    Raises:
        ValueError: naming `audit.pool_splits` and the split.
    """
    if "test" in splits:
        raise ValueError(
            "audit.pool_splits contains test, but the protocol is heldout: drift is reported on "
            f"test prompts, so that nothing may be repaired on them; use {', '.join(POOL_SPLITS)}"
        )
    unknown = [split for split in splits if split not in POOL_SPLITS]
    if unknown or not splits:
        found = repr(unknown[0]) if unknown else "empty"
        raise ValueError(f"audit.pool_splits is {found}; choose from {', '.join(POOL_SPLITS)}")


def check_pool(pool_questions: Iterable[Question], test_questions: Iterable[Question]) -> None:
    """Refuse a drift pool that shares a question with the test split.

    Raises:
        TestLeak: naming the shared ids.
    """
    shared = {question.id for question in pool_questions} & {q.id for q in test_questions}
    if shared:
        raise TestLeak(f"test questions in the drift pool (protocol heldout): {listed(shared)}")


def _case(pair: Pair, verdict: Verdict) -> DriftCase:
    return DriftCase(
        question_id=pair.question_id,
        candidate=pair.candidate.model,
        baseline_text=pair.baseline.text,
        candidate_text=pair.candidate.text,
        delta=pair.delta,
        type=verdict.type,
        severity=verdict.severity,
        passage=verdict.passage,
    )


def _key(pair: Pair) -> str:
    return f"{pair.candidate.model} {pair.question_id}"


def _verdict_keys(verdicts: Sequence[Verdict | JudgeFailure]) -> set[str]:
    keys = Counter(f"{v.candidate} {v.question_id}" for v in verdicts)
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise ValueError(f"judged twice: {listed(twice)}")
    return set(keys)
