"""The stage audit under each mode, judge and failure, on one finished run's pool; labels."""

import json

import pytest

from dart_jax.audit.drift import TooManyFailures
from dart_jax.chat.store import ResponseStore
from dart_jax.config import parse
from dart_jax.data.mini_suite import load_mini
from dart_jax.prompts.conclusion import analysis_of
from dart_jax.records import (
    Decision,
    DriftCase,
    DriftType,
    Generation,
    JudgeFailure,
    Outcome,
    PredictedLabel,
    Score,
    Severity,
    Uncertain,
    Verdict,
    read_jsonl,
    write_jsonl,
)
from dart_jax.run_dir import RunDir
from dart_jax.stages.context import Run
from dart_jax.stages.targets import label_questions
from dart_jax.train import main
from tests.chat.loopback import running_server, said


@pytest.fixture
def audit(copied, settings, tmp_path):
    """A function: run the stage audit with other settings; summary, outcomes and cases."""

    def run(**changes):
        assert main(settings(tmp_path, stages="audit", **changes)) == 0
        return (
            json.loads((copied / "audit/summary.json").read_text("utf-8")),
            read_jsonl(copied / "audit/verdicts.jsonl", Outcome),
            read_jsonl(copied / "audit/drift_cases.jsonl", DriftCase),
        )

    return run


def test_judge_all_sees_what_the_screen_holds_back(audit, finished):
    """Tau 1 screens nothing: the judge still finds what it found, and the recall says so."""
    before = read_jsonl(finished / "audit/drift_cases.jsonl", DriftCase)
    summary, outcomes, cases = audit(audit__mode="judge_all", audit__tau=1.0)
    assert cases == before and len(outcomes) == 8
    assert (summary["screened"], summary["judged"]) == (0, 8)
    missed = len(before)
    assert summary["screen"] == {"found": 0, "missed": missed, "recall": 0.0, "precision": None}


def test_screen_only_asks_no_judge(audit, judge):
    asked = len(judge.asked)
    bins = "[-0.2, -0.05, 0.0, 0.01]"
    settings = {"audit__mode": "screen_only", "audit__severity_bins": bins, "judge__model": "null"}
    summary, outcomes, cases = audit(**settings)
    assert len(judge.asked) == asked
    assert (summary["screened"], summary["judged"], summary["uncertain"]) == (8, 0, 0)
    assert all(isinstance(o, Verdict) and o.judge == "screen" for o in outcomes)
    assert len(cases) == summary["confirmed"] == summary["by_type"]["elaborates"] > 0
    assert len({case.severity for case in cases}) > 1
    assert all(case.type is DriftType.ELABORATES for case in cases)


def test_a_local_judge_decides_every_pair_in_both_orders(audit, judge):
    asked = len(judge.asked)
    summary, outcomes, _ = audit(judge__provider="local", judge__model="null")
    assert len(judge.asked) == asked
    assert (summary["judged"], summary["failed"]) == (8, 0)
    assert all(isinstance(outcome, Verdict | Uncertain) for outcome in outcomes)
    assert {len(outcome.opinions) for outcome in outcomes} == {2}


def test_a_guard_behind_a_service_screens_and_judges(audit, copied, finished):
    """Every other answer of M_int is unsafe; the service is asked about each answer once."""
    answers = read_jsonl(finished / "audit/generations/M_int.jsonl", Generation)
    unsafe = set(sorted({analysis_of(answer) for answer in answers})[::2])

    def verdict(number, body):
        is_unsafe = body["messages"][-1]["content"] in unsafe
        label, category = ("Unsafe", "Violent") if is_unsafe else ("Safe", "None")
        return 200, said(f"Safety: {label}\nCategories: {category}\nRefusal: No")

    with running_server() as server:
        server.behave = verdict
        summary, outcomes, cases = audit(
            audit__scorer="guard_service",
            audit__guard__format="qwen3guard",
            audit__guard__model="q",
            audit__guard__base_url=server.url,
            audit__tau=0.5,
            judge__provider="guard",
            judge__model="null",
        )

    scores = read_jsonl(copied / "audit/scores.jsonl", Score)
    assert {score.scorer for score in scores} == {"qwen3guard:q"}
    assert {score.value for score in scores} == {0.0, 1.0}
    asked = [tuple(turn["content"] for turn in body["messages"]) for body in server.bodies]
    assert len(asked) == len(set(asked)), "the judge's requests are the scorer's"
    assert {question for question, _ in asked} <= {item.question.text for item in load_mini()}

    # What rises from 0 to 1 is screened, and is safe beside unsafe.
    assert 0 < summary["confirmed"] == summary["judged"] == summary["screened"] < 8
    assert all(outcome.judge == "guard:qwen3guard:q" for outcome in outcomes)
    assert {case.severity for case in cases} == {Severity.EXTREME}


def test_too_many_failures_stop_the_stage_and_only_they_are_asked_again(
    audit, copied, finished, judge, monkeypatch
):
    """Another temperature makes every request a new one for the response store."""
    changes = {"judge__temperature": 0.4, "judge__max_failure_share": 0.25}
    pool = {score.question_id for score in read_jsonl(finished / "audit/scores.jsonl", Score)}
    refused = {item.question.text for item in load_mini() if item.question.id in sorted(pool)[:4]}
    monkeypatch.setattr(judge, "fails", lambda question: question in refused)
    with pytest.raises(TooManyFailures, match=r"failed on 4 of 8 pairs.*0\.25.*404"):
        audit(**changes)
    found = read_jsonl(copied / "audit/verdicts.jsonl", Outcome)
    assert sum(isinstance(outcome, JudgeFailure) for outcome in found) == 4
    assert not (copied / "audit/drift_cases.jsonl").exists()

    monkeypatch.setattr(judge, "fails", lambda question: False)
    asked = len(judge.asked)
    summary, outcomes, cases = audit(**changes)
    assert len(judge.asked) == asked + 2 * 4
    assert summary["failed"] == 0
    kept = [outcome for outcome in found if not isinstance(outcome, JudgeFailure)]
    assert all(outcome in outcomes for outcome in kept)
    assert cases == read_jsonl(finished / "audit/drift_cases.jsonl", DriftCase)


def test_a_reply_with_half_a_surrogate_pair_is_a_failure_that_the_next_start_asks_again(
    audit, copied, finished, judge, monkeypatch
):
    """It was stored, became a verdict that no file can hold, and every later start crashed."""
    changes = {"judge__temperature": 0.6, "judge__attempts": 2, "judge__max_failure_share": 0.25}
    monkeypatch.setattr(judge, "garbles", lambda question: True)
    for _ in range(2):
        asked = len(judge.asked)
        with pytest.raises(TooManyFailures, match=r"failed on 8 of 8 pairs.*surrogate"):
            audit(**changes)
        assert len(judge.asked) == asked + 8 * 2 * 2, "pairs, orders, attempts: all of them anew"
    with ResponseStore(copied / "responses.sqlite") as store:
        assert sum("surrogate" in reason for reason in store.failure_counts()) == 1

    monkeypatch.setattr(judge, "garbles", lambda question: False)
    summary, _, cases = audit(**changes)
    assert summary["failed"] == 0
    assert cases == read_jsonl(finished / "audit/drift_cases.jsonl", DriftCase)


def test_failures_within_the_share_are_counted_and_make_no_case(audit, judge, monkeypatch):
    monkeypatch.setattr(judge, "fails", lambda question: True)
    summary, outcomes, cases = audit(judge__temperature=0.5, judge__max_failure_share=1.0)
    assert summary["failed"] == 8 and summary["confirmed"] == 0 and cases == []
    assert all(isinstance(outcome, JudgeFailure) for outcome in outcomes)


def test_a_local_teacher_labels_every_question_once(copied, settings, tmp_path):
    """The labels take the place of gold in what is asked; a second call reads them from disk."""
    local = {"teacher__provider": "local", "teacher__label": "predicted"}
    config, _, _ = parse(settings(tmp_path, **local))
    run = Run(config, RunDir(config.run))
    asked = run.splits["train"]
    questions, reasons = label_questions(run, asked, "teach")
    labels = read_jsonl(copied / "teach/labels.jsonl", PredictedLabel)
    assert [label.question_id for label in labels] == [question.id for question in asked]
    assert not reasons and all(isinstance(label.decision, Decision) for label in labels)
    assert [question.gold for question in questions] == [label.decision for label in labels]
    assert [question.text for question in questions] == [question.text for question in asked]
    written = [PredictedLabel(q.id, Decision.NO, None, "by hand") for q in asked[:-1]]
    write_jsonl(copied / "teach/labels.jsonl", written)
    again, _ = label_questions(run, asked, "teach")
    assert [question.gold for question in again] == [Decision.NO] * 7 + [questions[-1].gold]
