"""Collect for the report page's drift browser every pair of a run, from the run's files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dart_jax.audit.annotation_sample import BLIND, OPEN, KeyedItem, page_key
from dart_jax.audit.audited import Audited, read_pool, read_tested
from dart_jax.evaluate.models import AUDITED
from dart_jax.prompts.conclusion import analysis_of, conclusion_of
from dart_jax.prompts.echo import without_echo
from dart_jax.records import (
    Generation,
    JudgeFailure,
    Opinion,
    Outcome,
    Question,
    Score,
    Target,
    Uncertain,
    Verdict,
    digest,
    read_jsonl,
)
from dart_jax.report.visible import visible

QUESTIONS = "evaluation/questions.jsonl"
"""It holds the questions of drift pool and test split; the other files have only their ids."""


def browser_data(run_path: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Collect all cases of a run, JSON-able; None where the run did not keep its questions.

    A case is a question of the drift pool or of the test split, with the models' answers and, for
    each audited model, what became of its pair.

    Returns:
        `run`, `key` (changes when any text of the drift pool does), `cases` and
        `queue`: the places of the pool's cases in the order of blinded annotation.

    Raises:
        FileNotFoundError, BadRecord: Another of the run's files is missing or damaged.
    """
    path = run_path / QUESTIONS
    if not path.exists():
        return None

    questions = {question.id: question for question in read_jsonl(path, Question)}
    screen_by = config["audit"]["screen_by"]
    pool = read_pool(run_path, screen_by)
    blind = page_key(list(pool.pairs.values()), pool.outcomes, BLIND)

    pool_cases = _cases("pool", {"M_int": pool}, questions)
    _add_items(pool_cases, blind, page_key(list(pool.pairs.values()), pool.outcomes, OPEN))
    _add_repairs(pool_cases, run_path / "repair/targets.jsonl")

    tested = {name: read_tested(run_path, name, screen_by) for name in AUDITED}
    cases = _cases("test", tested, questions) + pool_cases
    place = {case["id"]: number for number, case in enumerate(cases)}  # the pool's, where in both

    name = config["run"]["name"]
    return {
        "run": visible(name),
        # Sorted: a new judgement changes the queue, and must not hide the answers given so far,
        # which the browser keeps under this key.
        "key": digest([name, sorted(keyed.item for keyed in blind)])[:16],
        "cases": cases,
        "queue": [place[visible(keyed.question_id)] for keyed in blind],
    }


def _cases(
    split: str, audits: Mapping[str, Audited], questions: Mapping[str, Question]
) -> list[dict[str, Any]]:
    scores = _scores([score for audit in audits.values() for score in audit.scores])
    cases = []
    for id, pair in next(iter(audits.values())).pairs.items():
        # The first pair brings M0's answer, which is the same in all audits.
        answers = [pair.baseline, *(audit.pairs[id].candidate for audit in audits.values())]
        question = questions[id]
        cases.append(
            {
                "id": visible(id),
                "set": split,
                "benchmark": visible(question.benchmark),
                "label": question.condition.name if question.condition else "unlabelled",
                "gold": question.gold.value if question.gold else "unknown",
                "question": visible(question.text),
                "answers": [_answer(answer, scores) for answer in answers],
                "audits": {
                    name: {"delta": audit.pairs[id].delta, **_outcome(audit.outcomes.get(id))}
                    for name, audit in audits.items()
                },
            }
        )
    return cases


_ScoresOf = Mapping[tuple[str, str], Mapping[str, float]]


def _scores(scores: list[Score]) -> _ScoresOf:
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for score in scores:
        found[score.model, score.question_id][visible(score.scorer)] = score.value
    return found


def _answer(answer: Generation, scores: _ScoresOf) -> dict[str, Any]:
    """The analysis is what is scored, `blinded` what annotators see of it, where that is less.

    The rest is the conclusion line.
    """
    analysis = analysis_of(answer)
    shown = without_echo(analysis)
    return {
        "model": answer.model,
        "analysis": visible(analysis),
        **({} if shown == analysis else {"blinded": visible(shown)}),
        "rest": visible(conclusion_of(answer)),
        "decision": answer.decision and answer.decision.value,
        "unparseable": answer.unparseable,
        "scores": list(scores[answer.model, answer.question_id].items()),
    }


def _outcome(outcome: Outcome | None) -> dict[str, Any]:
    """`outcome` is what `annotation_sample.stratum` says; the rest depends on it."""
    match outcome:
        case None:
            return {"outcome": "not_screened"}
        case Verdict():
            return {
                "outcome": "drift" if outcome.drift else "no_drift",
                **_fault(outcome.judged_type, outcome.severity),
                "passages": [visible(outcome.passage)] if outcome.passage.strip() else [],
                "reason": visible(outcome.reason),
                "judge": visible(outcome.judge),
                "opinions": [_opinion(opinion) for opinion in outcome.opinions],
            }
        case Uncertain():
            return {
                "outcome": "uncertain",
                "judge": visible(outcome.judge),
                "opinions": [_opinion(opinion) for opinion in outcome.opinions],
            }
        case JudgeFailure():
            return {
                "outcome": "failure",
                "reason": visible(outcome.reason),
                "judge": visible(outcome.judge),
                "attempts": outcome.attempts,
            }


def _opinion(opinion: Opinion) -> dict[str, Any]:
    return {
        "first": opinion.first,
        "worse": opinion.worse,
        **_fault(opinion.type, opinion.severity),
        "passage": visible(opinion.passage),
        "reason": visible(opinion.reason),
    }


def _fault(type: Any, severity: Any) -> dict[str, Any]:
    return {
        "type": None if type is None else type.value,
        "severity": None if severity is None else int(severity),
    }


def _add_items(
    cases: list[dict[str, Any]], blind: list[KeyedItem], in_view: list[KeyedItem]
) -> None:
    """Give the ids that people answer under, and the candidate's side of each blinded pair."""
    hidden = {visible(keyed.question_id): keyed for keyed in blind}
    shown = {visible(keyed.question_id): keyed for keyed in in_view}
    for case in cases:
        keyed = hidden[case["id"]]
        case["items"] = {
            "blind": keyed.item,
            "open": shown[case["id"]].item,
            "candidate": keyed.candidate,
        }


def _add_repairs(cases: list[dict[str, Any]], path: Path) -> None:
    """Put the safer rationale that the teacher wrote beside the drift that it repairs."""
    targets = read_jsonl(path, Target) if path.exists() else []
    written = {
        visible(target.question_id): target for target in targets if target.stage == "repair"
    }
    for case in cases:
        if case["id"] in written:
            target = written[case["id"]]
            case["repair"] = {"text": visible(target.completion), "weight": target.weight}
