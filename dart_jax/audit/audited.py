"""The pairs of an audit and what became of them, read from a run's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dart_jax.audit.scorers import ANY
from dart_jax.audit.screen import Pair, pair_up
from dart_jax.records import Generation, Outcome, Score, read_jsonl


@dataclass(frozen=True)
class Audited:
    """One audited model against M0.

    Attributes:
        pairs: By question id, in the order of the files.
        outcomes: By question id, of the pairs that were judged.
        scores: Of both models' answers, by every scorer.
    """

    pairs: dict[str, Pair]
    outcomes: dict[str, Outcome]
    scores: list[Score]


def read_pool(run_path: Path, screen_by: str = ANY) -> Audited:
    """M_int on the drift pool, as the first audit found it.

    Raises:
        FileNotFoundError, BadRecord: A file is missing or damaged.
    """
    audit = run_path / "audit"
    return _read(
        audit / "generations", "M_int", audit / "scores.jsonl", audit / "verdicts.jsonl", screen_by
    )


def read_tested(run_path: Path, candidate: str, screen_by: str = ANY) -> Audited:
    """M_int or M_DART on the test questions; raises as `read_pool` does."""
    evaluation = run_path / "evaluation"
    verdicts = evaluation / f"verdicts_{candidate}.jsonl"
    answers = run_path / "generations"
    return _read(answers, candidate, evaluation / "scores.jsonl", verdicts, screen_by)


def _read(answers: Path, candidate: str, scores: Path, verdicts: Path, screen_by: str) -> Audited:
    models = ("M0", candidate)
    sides = [read_jsonl(answers / f"{name}.jsonl", Generation) for name in models]
    own = [score for score in read_jsonl(scores, Score) if score.model in models]
    return Audited(
        {pair.question_id: pair for pair in pair_up(*sides, own, screen_by)},
        {outcome.question_id: outcome for outcome in read_jsonl(verdicts, Outcome)},
        own,
    )
