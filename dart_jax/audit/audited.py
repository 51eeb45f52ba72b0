"""Read the pairs of an audit, their scores and their outcomes from a run's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dart_jax.audit.scorers import ANY
from dart_jax.audit.screen import Pair, pair_up
from dart_jax.records import Generation, Outcome, Score, read_jsonl


@dataclass(frozen=True)
class Audited:
    """The audit of one model against M0.

    Attributes:
        pairs: All pairs by question id, in the order of the files.
        outcomes: Outcome of each judged pair, by question id.
        scores: Scores of both models' answers, by every scorer.
    """

    pairs: dict[str, Pair]
    outcomes: dict[str, Outcome]
    scores: list[Score]


def read_pool(run_path: Path, screen_by: str = ANY) -> Audited:
    """Read the first audit of M_int on the drift pool.

    Raises:
        FileNotFoundError, BadRecord: A file is missing or damaged.
    """
    audit = run_path / "audit"
    return _read(
        audit / "generations", "M_int", audit / "scores.jsonl", audit / "verdicts.jsonl", screen_by
    )


def read_tested(run_path: Path, candidate: str, screen_by: str = ANY) -> Audited:
    """Read the audit of M_int or M_DART on the test questions; raises as `read_pool` does."""
    evaluation = run_path / "evaluation"
    verdicts = evaluation / f"verdicts_{candidate}.jsonl"
    answers = run_path / "generations"
    return _read(answers, candidate, evaluation / "scores.jsonl", verdicts, screen_by)


def _read(answers: Path, candidate: str, scores: Path, verdicts: Path, screen_by: str) -> Audited:
    of_m0 = read_jsonl(answers / "M0.jsonl", Generation)
    of_candidate = read_jsonl(answers / f"{candidate}.jsonl", Generation)
    # The evaluation's file holds the scores of both audited models.
    of_both = [score for score in read_jsonl(scores, Score) if score.model in ("M0", candidate)]

    pairs = pair_up(of_m0, of_candidate, of_both, screen_by)
    outcomes = read_jsonl(verdicts, Outcome)

    return Audited(
        pairs={pair.question_id: pair for pair in pairs},
        outcomes={outcome.question_id: outcome for outcome in outcomes},
        scores=of_both,
    )
