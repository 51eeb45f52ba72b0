"""Screen and judge a candidate's answers against M0's: shared by the stages audit and evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dart_jax.audit.config import GUARD
from dart_jax.audit.drift import AuditCounts, check_failures, count_audit, screen_verdict
from dart_jax.audit.planted_truth import PLANTED_WORDS, planted_verdict
from dart_jax.audit.scorer_contents import scorer_contents
from dart_jax.audit.scorers import score_generations
from dart_jax.audit.screen import Pair, pair_up, screen, without_room
from dart_jax.processes import on_primary, progress
from dart_jax.records import (
    DriftType,
    Generation,
    JudgeFailure,
    Outcome,
    Question,
    Score,
    Severity,
    write_jsonl,
)
from dart_jax.stages.context import Run
from dart_jax.stages.noise import tau_of
from dart_jax.stages.providers import judge


@dataclass(frozen=True)
class Audit:
    """One candidate's audit against M0.

    Attributes:
        mode: `audit.mode`.
        no_room: Questions whose prompt left no room for an answer; they are no pairs.
    """

    pairs: list[Pair]
    screened: list[Pair]
    outcomes: list[Outcome]
    mode: str
    no_room: int

    def counts(self) -> AuditCounts:
        """Hold what became of the pairs."""
        return count_audit(self.pairs, self.screened, self.outcomes, self.mode, self.no_room)


def score_all(
    run: Run,
    generations: Sequence[Generation],
    path: str,
    questions: Mapping[str, Question] | None = None,
) -> list[Score]:
    """Score every answer in one call, so that equal texts get equal scores; saved to `path`.

    What left no room for an answer has no text that a score could be of.

    Args:
        questions: What was asked, by id; the run's own by default.
    """
    generations = [answer for answer in generations if answer.had_room]

    def score() -> list[Score]:
        config, scores = run.config.audit, []
        for scorer in run.scorers:
            print(f"scoring {len(generations)} answers with {scorer.name}", flush=True)
            scores += score_generations(
                generations, scorer, config.batch_size, config.views, questions or run.questions
            )
        write_jsonl(run.folder / path, scores)
        return scores

    return on_primary(score)


def audit_candidate(
    run: Run,
    baseline: Sequence[Generation],
    candidate: Sequence[Generation],
    scores: Sequence[Score],
    path: str,
    questions: Mapping[str, Question] | None = None,
) -> Audit:
    """Pair, screen with tau, and judge what `path` does not hold yet, as `audit.mode` says.

    Args:
        questions: What was asked, by id; the run's own by default.

    Raises:
        TooManyFailures: The judge failed on more than `judge.max_failure_share` of the pairs.
    """
    config = run.config.audit
    names = {baseline[0].model, candidate[0].model}
    own = [score for score in scores if score.model in names]
    pairs = pair_up(baseline, candidate, own, config.screen_by)
    # Where tau is auto it is in a file of the run, which the first process reads.
    screened = screen(pairs, on_primary(lambda: tau_of(run)))

    if config.mode == "screen_only":
        outcomes = [screen_verdict(pair, config.severity_bins) for pair in screened]
        on_primary(lambda: write_jsonl(run.folder / path, outcomes))
    elif config.mode == "planted":
        asked = questions or run.questions
        # All pairs, screened or not: the words decide, and no scorer's error is to enter.
        outcomes = [planted_verdict(p, _omission(run, asked[p.question_id])) for p in pairs]
        on_primary(lambda: write_jsonl(run.folder / path, outcomes))
    else:
        chosen = pairs if config.mode == "judge_all" else screened
        outcomes = judge_missing(run, chosen, path, questions or run.questions)
        # Behind the judging: the verdicts are on the disk, and the next start asks for the failures
        # alone.
        check_failures(outcomes, run.config.judge.max_failure_share)

    no_room = len(without_room(baseline, candidate))
    return Audit(pairs, screened, outcomes, config.mode, no_room)


def _omission(run: Run, question: Question) -> Severity | None:
    """The severity of the omissions that the run plants in a question's benchmark, if it does."""
    fault = run.faults.get(question.benchmark)
    return fault.severity if fault is not None and fault.type is DriftType.OMITS else None


def audit_as_m_dart(run: Run, of_m_int: Audit, path: str) -> Audit:
    """Write the verdicts on M_int as M_DART's, where the two are one model."""
    return replace(
        of_m_int,
        pairs=_pairs_as_m_dart(of_m_int.pairs),
        screened=_pairs_as_m_dart(of_m_int.screened),
        outcomes=outcomes_as_m_dart(run, of_m_int.outcomes, path),
    )


def outcomes_as_m_dart(run: Run, of_m_int: Sequence[Outcome], path: str) -> list[Outcome]:
    """Write M_int's outcomes as M_DART's, failures too: a judge is not asked about them again."""
    outcomes = [replace(outcome, candidate="M_DART") for outcome in of_m_int]
    on_primary(lambda: write_jsonl(run.folder / path, outcomes))
    return outcomes


def _pairs_as_m_dart(pairs: Sequence[Pair]) -> list[Pair]:
    return [replace(pair, candidate=replace(pair.candidate, model="M_DART")) for pair in pairs]


def judge_missing(
    run: Run,
    pairs: Sequence[Pair],
    path: str,
    questions: Mapping[str, Question],
    role: str = "judge",
) -> list[Outcome]:
    """Judge the pairs of which `path` holds no outcome, or a failure: that is asked again.

    Args:
        role: Section of the judge, see `DartConfig.service`.
    """
    outcomes = run.results(path, Outcome)
    # The failures' lines leave the file when `finish` writes it again.
    outcomes.records = [o for o in outcomes.records if not isinstance(o, JudgeFailure)]
    judged = {outcome.question_id for outcome in outcomes.records}
    missing = [pair for pair in pairs if pair.question_id not in judged]

    with progress("judged", len(pairs), len(judged)) as bar:

        def keep(outcome: Outcome) -> None:
            outcomes.add([outcome])
            bar.update()

        judge(run, missing, questions, keep, role)

    order = {pair.question_id: index for index, pair in enumerate(pairs)}
    return outcomes.finish(lambda outcome: order[outcome.question_id])


def audit_inputs(run: Run) -> dict[str, Any]:
    """Collect what any audit depends on besides the answers."""
    config = run.config.audit
    found = {"audit": config.identity(), "scorers": scorer_contents(config)}
    return {**found, "judge": judge_input(run)} if config.asks_judge else found


def judge_name(run: Run) -> str:
    """Name whoever confirms drift, for the tables: none where the scorer alone does."""
    if run.config.audit.mode == "planted":
        return PLANTED_WORDS
    return run.config.judge.provider if run.config.audit.asks_judge else "none"


def judge_input(run: Run, role: str = "judge") -> dict[str, Any]:
    """Identify a judge: settings that can change a verdict and, where local, its model."""
    config = run.config.service(role)
    found = config.identity()
    if config.provider == GUARD:
        found["severity_bins"] = run.config.audit.severity_bins
        if config.model is None:
            return {**found, "guard": run.config.audit.guard.identity()}
    if config.provider in ("local", GUARD):
        return {**found, **run.model_inputs(config.model)}
    return found
