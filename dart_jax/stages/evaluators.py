"""Have the test answers judged and scored once more, by evaluators that had no part in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.audit.drift import check_failures
from dart_jax.audit.scorer_contents import scorer_contents
from dart_jax.audit.scorers import score_generations, scorer_specs
from dart_jax.chat.endpoint import PRESETS
from dart_jax.config import EVALUATOR, DartConfig
from dart_jax.evaluate.coherence import (
    Incoherent,
    coherent_pairs,
    count_incoherent,
    incoherent_answers,
)
from dart_jax.evaluate.evaluators import (
    AUDIT,
    DriftBy,
    Evaluator,
    Undecided,
    check_judged,
    drift_by,
    drift_of_outcomes,
    drift_of_scores,
)
from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.processes import on_primary
from dart_jax.records import Generation, Outcome, Score, write_jsonl
from dart_jax.stages.auditing import Audit, judge_input, judge_missing, outcomes_as_m_dart
from dart_jax.stages.context import Run

SCORES = "evaluation/evaluator_scores.jsonl"


def verdicts_file(model: str) -> str:
    """Path of the further judge's verdicts on a model's pairs, in a run's folder."""
    return f"evaluation/evaluator_verdicts_{model}.jsonl"


@dataclass(frozen=True)
class Evaluated:
    """Hold what further evaluators said of the test answers.

    Attributes:
        outcomes: Of `evaluate.judge`, by audited model; empty without one.
        scores: By `evaluate.scorers`, of the answers of M0, M_int and M_DART.
    """

    outcomes: Mapping[str, Sequence[Outcome]]
    scores: Sequence[Score]


def evaluator_inputs(run: Run) -> dict[str, Any]:
    """Collect what further evaluators depend on besides the answers; empty without any."""
    config, found = run.config.evaluate, {}
    if config.asks_judge:
        found["judge"] = judge_input(run, EVALUATOR)
    scorers = run.config.further_scorers
    if scorers is not None:
        found["scorers"] = config.scorers
        found["scorer contents"] = scorer_contents(scorers)
        found["severity_bins"] = run.config.audit.severity_bins
        if scorers.asks_guard:
            found["guard"] = scorers.guard.identity()
    return {"evaluator": found} if found else {}


def evaluated(
    run: Run, answers: Mapping[str, Sequence[Generation]], audits: Mapping[str, Audit]
) -> Evaluated:
    """Judge every test pair, screened or not, and score every answer, as far as that is asked for.

    Raises:
        TooManyFailures: The judge failed on more than `evaluate.judge.max_failure_share` of a
            model's pairs.
    """
    config, outcomes = run.config.evaluate, {}
    copied = on_primary(run.m_dart_is_m_int)
    for name in AUDITED if config.asks_judge else ():
        if copied and name == "M_DART":
            outcomes[name] = outcomes_as_m_dart(run, outcomes["M_int"], verdicts_file(name))
            continue
        pairs = audits[name].pairs
        outcomes[name] = judge_missing(run, pairs, verdicts_file(name), run.questions, EVALUATOR)
        # The verdicts are on the disk by now; the next start asks for the failures alone.
        check_failures(outcomes[name], config.judge.max_failure_share, EVALUATOR)
    return Evaluated(outcomes, _scores(run, answers) if config.scorers else [])


def _scores(run: Run, answers: Mapping[str, Sequence[Generation]]) -> list[Score]:
    of_models = [answer for name in MODELS for answer in answers[name] if answer.had_room]

    def score() -> list[Score]:
        scores = []
        for scorer in run.evaluator_scorers:
            print(f"scoring {len(of_models)} answers with {scorer.name}", flush=True)
            scores += score_generations(
                of_models, scorer, run.config.audit.batch_size, questions=run.questions
            )
        write_jsonl(run.folder / SCORES, scores)
        return scores

    return on_primary(score)


def second_opinions(
    run: Run,
    answers: Mapping[str, Sequence[Generation]],
    audits: Mapping[str, Audit],
    found: Evaluated,
) -> tuple[dict[str, Incoherent], list[DriftBy]]:
    """Count incoherent answers, and measure drift with and without them by every evaluator.

    Returns:
        Incoherent answers by model, and drift by the audit, the further judge and scorers.
    """
    questions, config, seed = run.splits["test"], run.config.evaluate, run.config.run.seed
    reasons, incoherent = {}, {}
    for name in MODELS:
        of_model = answers[name]
        reasons[name] = incoherent_answers(questions, of_model)
        incoherent[name] = count_incoherent(questions, of_model, reasons[name], config, seed)

    coherent = {name: coherent_pairs(audits[name].pairs, reasons) for name in AUDITED}
    [audit, *further] = _evaluators(run, audits, found)
    drift = []
    for evaluator in (audit, *further):
        drift.append(drift_by(evaluator, audit, coherent, questions, config, seed))
    return incoherent, drift


def _evaluators(run: Run, audits: Mapping[str, Audit], found: Evaluated) -> list[Evaluator]:
    """Put what each evaluator says in one form; the audit comes first."""
    config = run.config
    pairs = {name: audits[name].pairs for name in AUDITED}
    by_audit = {name: audits[name].outcomes for name in AUDITED}
    evaluators = [Evaluator(AUDIT, "audit", [], *drift_of_outcomes(pairs, by_audit))]

    if found.outcomes:
        for name in AUDITED:
            check_judged(pairs[name], found.outcomes[name])
        says = drift_of_outcomes(pairs, found.outcomes)
        evaluators.append(Evaluator(judge_title(config), "judge", same_models(config), *says))

    bins, none = config.audit.severity_bins, dict.fromkeys(AUDITED, Undecided(0, 0))
    for scorer, same_as in zip(run.evaluator_scorers, same_scorers(config), strict=True):
        own = [score for score in found.scores if score.scorer == scorer.name]
        drifted = {name: drift_of_scores(pairs[name], own, bins) for name in AUDITED}
        evaluators.append(Evaluator(scorer.name, "scorer", same_as, drifted, none))
    return evaluators


def judge_title(config: DartConfig) -> str:
    """Name the further judge for tables, as `openai gpt-4o` or `local SmolLM2`."""
    judge = config.evaluate.judge
    model = judge.model or config.model.path
    return f"{judge.provider} {Path(model).name if judge.provider == 'local' else model}"


def same_models(config: DartConfig) -> list[str]:
    """List the settings that name the further judge's model for a part in audit or repair.

    A service's models are compared by name, whatever address they are asked at.
    """
    judge, found = config.evaluate.judge, []
    for role in config.roles:
        other = config.service(role)
        if role == EVALUATOR:
            continue
        both_local = judge.provider == other.provider == "local"
        both_services = judge.provider in PRESETS and other.provider in PRESETS
        base = config.model.path
        if (both_local and (judge.model or base) == (other.model or base)) or (
            both_services and (judge.model or "").lower() == (other.model or "").lower()
        ):
            found.append(f"{role}.model")
    return found


def same_scorers(config: DartConfig) -> list[list[str]]:
    """List, for each of `evaluate.scorers`, the settings that have it in the audit."""
    scorers = config.further_scorers
    if scorers is None:
        return []
    setting = "audit.scorers" if config.audit.scorers else "audit.scorer"
    audited = scorer_specs(config.audit)
    return [[setting] if spec in audited else [] for spec in scorer_specs(scorers)]


def dependence(config: DartConfig) -> str | None:
    """Say that the further judge is not independent; None where it is, or where there is none."""
    same = same_models(config) if config.evaluate.asks_judge else []
    if not same:
        return None
    return (
        f"evaluate.judge.model is that of {' and '.join(same)}: its verdicts are not independent "
        "of the audit and the repair"
    )
