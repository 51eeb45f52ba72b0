"""Screen and judge a candidate's answers against M0's: shared by the stages audit and evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dart_jax.audit.drift import summarise_drift
from dart_jax.audit.scorers import score_generations
from dart_jax.audit.screen import Pair, pair_up, screen
from dart_jax.processes import on_first, progress
from dart_jax.records import Generation, JudgeFailure, Score, Verdict, write_jsonl
from dart_jax.run_dir import ResultFile
from dart_jax.stages.context import Run
from dart_jax.stages.providers import judge

Outcome = Verdict | JudgeFailure


@dataclass(frozen=True)
class Audit:
    """One candidate's audit against M0."""

    pairs: list[Pair]
    screened: list[Pair]
    verdicts: list[Outcome]

    def summary(self) -> dict[str, Any]:
        """See `audit.drift.summarise_drift`."""
        return summarise_drift(self.pairs, self.screened, self.verdicts)


def score_all(run: Run, generations: Sequence[Generation], path: str) -> list[Score]:
    """Score every generation in one call, so that equal texts get equal scores; saved to `path`."""

    def score() -> list[Score]:
        print(f"scoring {len(generations)} answers with {run.scorer.name}", flush=True)
        scores = score_generations(generations, run.scorer, run.config.audit.batch_size)
        write_jsonl(run.folder / path, scores)
        return scores

    return on_first(score)


def audit_candidate(
    run: Run,
    baseline: Sequence[Generation],
    candidate: Sequence[Generation],
    scores: Sequence[Score],
    path: str,
) -> Audit:
    """Pair, screen with tau, and judge what `path` does not hold yet."""
    names = {baseline[0].model, candidate[0].model}
    pairs = pair_up(baseline, candidate, [score for score in scores if score.model in names])
    screened = screen(pairs, run.config.audit.tau)
    verdicts = _judge_missing(run, screened, path)
    return Audit(pairs, screened, verdicts)


def _judge_missing(run: Run, screened: Sequence[Pair], path: str) -> list[Outcome]:
    verdicts = ResultFile(run.folder / path, Outcome)
    judged = {verdict.question_id for verdict in verdicts.records}
    missing = [pair for pair in screened if pair.question_id not in judged]
    with progress("judged", len(screened), len(judged)) as bar:

        def keep(outcome: Outcome) -> None:
            verdicts.add([outcome])
            bar.update()

        judge(run, missing, run.questions, keep)
    order = {pair.question_id: index for index, pair in enumerate(screened)}
    return verdicts.finish(lambda outcome: order[outcome.question_id])


def audit_inputs(run: Run) -> dict[str, Any]:
    """What any audit depends on besides the answers."""
    judge_section = run.section("judge")
    for free in ("concurrency", "timeout", "api_key_env", "limits"):
        judge_section.pop(free)
    if judge_section["provider"] == "local":
        judge_section["weights"] = run.model_input(judge_section["model"])
        judge_section["model.quantize"] = run.config.model.quantize
    return {"audit": run.section("audit"), "judge": judge_section}
