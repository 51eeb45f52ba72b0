"""Predicted labels: the teacher's own conclusion, and where it may go."""

import numpy as np
import pytest

from dart_jax.chat.protocol import ChatFailure, ChatReply
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Condition, Decision, PredictedLabel, Question
from dart_jax.teach.config import TeacherConfig
from dart_jax.teach.distill import distill_requests
from dart_jax.teach.labels import (
    LabelSummary,
    ask_labels,
    label_summary,
    likely_labels,
    with_labels,
    without_label,
)
from dart_jax.teach.quality import check_target

CONFIG = TeacherConfig(provider="openai", label="predicted", correction_rounds=1)


def question(id: str, condition=Condition.DIFF) -> Question:
    return Question(id, "D3", condition, f"Question {id}? (a) A (b) B (c) C", 0, f"s-{id}")


class ScriptedTeacher:
    name = "openai:scripted"

    def __init__(self, script: dict[str, list[str | None]]) -> None:
        self.script = script
        self.batches: list[list] = []

    def complete(self, requests, on_result=None):
        self.batches.append(list(requests))
        for request in reversed(requests):
            text = self.script[request.id].pop(0)
            failed = ChatFailure(request.id, "500")
            on_result(failed if text is None else ChatReply(request.id, text))


def labels(script):
    teacher, found = ScriptedTeacher(script), []
    ask_labels([question(id) for id in script], teacher, CONFIG, found.append)
    return {label.question_id: label for label in found}, teacher.batches


def test_a_label_is_the_teachers_own_conclusion_on_the_bare_question():
    found, batches = labels({"a": ["Why.\nConclusion: NO"], "b": ["Why.\nConclusion: YES"]})
    assert (found["a"].decision, found["b"].decision) == (Decision.NO, Decision.YES)
    assert [request.messages for request in batches[0]] == [
        answer_messages(question(id)) for id in ("a", "b")
    ]
    assert len(batches) == 1


def test_an_answer_without_conclusion_is_no_label_and_final():
    found, batches = labels({"a": ["It depends."]})
    assert found["a"] == PredictedLabel("a", None, "no conclusion line", "openai:scripted")
    assert len(batches) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Conclusion: YES\nWait, no.\nConclusion: NO", "contradictory conclusions"),
        ("<think>Conclusion: YES</think>It depends.", "no conclusion line"),
        ("Conclusion: YES or NO", "more than YES or NO in its conclusion line"),
    ],
)
def test_a_label_is_read_by_the_rule_of_every_conclusion(text, reason):
    found, _ = labels({"a": [text]})
    assert (found["a"].decision, found["a"].reason) == (None, reason)


def test_a_failed_request_is_sent_again_and_then_no_label():
    found, batches = labels({"a": [None, "Conclusion: YES"], "b": [None, None]})
    assert found["a"].decision is Decision.YES
    assert found["b"].decision is None and found["b"].reason == "request failed: 500"
    assert [len(batch) for batch in batches] == [2, 2]


def test_a_predicted_label_takes_the_place_of_gold_in_what_is_asked_and_checked():
    gold = [question("a"), question("b", Condition.EQUAL), question("c")]
    wrong, right = Decision.NO, Decision.NO
    predicted = [
        PredictedLabel("c", None, "no conclusion line", "j"),
        PredictedLabel("b", right, None, "j"),
        PredictedLabel("a", wrong, None, "j"),
    ]
    labelled, reasons = with_labels(gold, predicted)
    assert [(q.id, q.gold) for q in labelled] == [("a", Decision.NO), ("b", Decision.NO)]
    assert reasons == {"c": "no conclusion line"}
    (asked, _) = distill_requests(labelled)
    assert "Conclusion: NO" in asked.messages[-1]["content"]
    assert "Conclusion: YES" not in asked.messages[-1]["content"]
    target = "These groups are alike in law. The law names none.\nConclusion: NO"
    assert check_target(target, asked.question) is None
    assert check_target(target, gold[0]).code == "wrong_conclusion"


def test_the_question_without_label_is_a_reject_that_says_why():
    rejected = without_label("c", "distill", "no conclusion line")
    assert rejected.reasons == ["no_label: no conclusion line"] and rejected.texts == [""]


def test_a_local_teachers_label_is_its_likelier_conclusion():
    rows = [[-1.0, -2.0], [-2.0, -1.0], [-1.0, -1.0], [np.nan, np.nan]]
    asked = []

    def score(prompts, lines):
        asked.append((prompts, lines))
        return np.array(rows[: len(prompts)])

    found = []
    questions = [question(id) for id in "abcd"]
    likely_labels(questions, score, "local:tiny", found.append)
    assert [label.decision for label in found] == [Decision.YES, Decision.NO, None, None]
    assert all((label.reason is None) == (label.decision is not None) for label in found)
    assert asked == [
        ([answer_messages(q) for q in questions], ["Conclusion: YES", "Conclusion: NO"])
    ]


def test_the_report_counts_agreement_over_those_with_a_label():
    questions = [question(id) for id in "abc"]
    predicted = [
        PredictedLabel("a", Decision.YES, None, "j"),
        PredictedLabel("b", Decision.NO, None, "j"),
        PredictedLabel("c", None, "empty", "j"),
    ]
    assert label_summary(questions, predicted) == LabelSummary(3, 1, 0.5)
    assert label_summary(questions, predicted[2:]).agreement is None


def test_unlabelled_questions_agree_and_disagree_with_nothing():
    asked = [question("a"), question("b"), question("c", None)]
    found = [PredictedLabel(id, Decision.YES, None, "p") for id in "ac"]
    found.append(PredictedLabel("b", None, "empty", "p"))
    assert label_summary(asked, found) == LabelSummary(3, 1, 1.0)


def test_a_file_cannot_predict_labels():
    with pytest.raises(ValueError, match=r"teacher\.label predicted"):
        TeacherConfig(provider="file", label="predicted")
