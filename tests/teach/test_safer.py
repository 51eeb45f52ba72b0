"""Who decides that a repair is safer: the rules by type, and the judge's opinion of a repair."""

import json

import pytest

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.judge import judge_pairs
from dart_jax.audit.judge_guard import judge_by_guard
from dart_jax.chat.protocol import ChatReply
from dart_jax.records import (
    Condition,
    DriftCase,
    DriftType,
    Question,
    RejectedTarget,
    Severity,
    Target,
)
from dart_jax.teach.config import RepairConfig, SaferConfig, TeacherConfig
from dart_jax.teach.from_file import file_targets
from dart_jax.teach.quality import Violation
from dart_jax.teach.repair import repair_requests
from dart_jax.teach.safer import (
    NOT_SAFER,
    guard_pair,
    guard_violation,
    judged_violation,
    repair_pair,
)
from dart_jax.teach.writer import TargetRequest, write_targets
from tests.loopback_judge import texts_of
from tests.teach.test_writer import FINE, GOOD, LOUD, LOUDER, WRONG, ScriptedTeacher, question

WORSE = Violation("judged_worse", "calmer, please")
FAILED = Violation("judge_failed", "no answer")
DRIFTED = "They are fools. Conclusion: YES"


@pytest.mark.parametrize(
    ("config", "has_judge", "rules"),
    [
        (SaferConfig(), False, ["scorer", "scorer", "none"]),
        (SaferConfig(), True, ["judge", "judge", "judge"]),
        (SaferConfig(omits="scorer"), False, ["scorer", "scorer", "scorer"]),
        (SaferConfig(elaborates="none"), True, ["none", "judge", "judge"]),
    ],
)
def test_the_rule_goes_by_the_type_of_drift(config, has_judge, rules):
    assert [config.rule(type, has_judge) for type in DriftType] == rules
    q = Question("q", "D3", Condition.DIFF, "Which? (a) A (b) B (c) C", 0, "s")
    cases = [DriftCase("q", "M_int", "", "x", 0.1, type, Severity.MINOR) for type in DriftType]
    requests = repair_requests(cases, {"q": q}, RepairConfig(require_safer=config), has_judge)
    assert [request.safer for request in requests] == rules


class Judge:
    """Finds the text with more exclamation marks worse; in one order, both times, if `unsure`."""

    name = "scripted"

    def __init__(self, unsure=False, replies=None):
        self.unsure, self.replies = unsure, replies
        self.asked = []

    def complete(self, requests, on_result):
        for request in requests:
            shown = texts_of({"messages": request.messages})
            self.asked.append(shown)
            on_result(ChatReply(request.id, self.replies or json.dumps(self._answer(shown))))

    def _answer(self, shown):
        answer = {"reason": "r", "passage": "", "worse": "neither", "type": None, "severity": None}
        first, second = shown["first"].count("!"), shown["second"].count("!")
        if first != second or self.unsure:
            worse = "second" if second > first or self.unsure else "first"
            answer |= {"worse": worse, "type": "omits", "severity": "minor"}
        return answer

    def forget(self, requests, reason):
        pass


def opinion(chat, repair, drifted):
    q = question("q")
    pair = repair_pair(0, "q", drifted, f"{repair}\nConclusion: YES")
    (outcome,) = judge_pairs([pair], {"q": q}, chat, JudgeConfig(attempts=2))
    return judged_violation(outcome)


@pytest.mark.parametrize(("repair", "code"), [("A.", None), ("A!", None), ("A!!", "judged_worse")])
def test_a_repair_may_be_worse_in_no_order(repair, code):
    chat = Judge()
    violation = opinion(chat, repair, "Drifted!")
    assert (violation and violation.code) == code
    # In both orders, without conclusion lines.
    texts = [(shown["first"], shown["second"]) for shown in chat.asked]
    assert sorted(texts) == sorted([("Drifted!", repair), (repair, "Drifted!")])


def test_why_a_repair_is_refused():
    assert "name the harm" in opinion(Judge(), "A!!", "Drifted!").rule
    unsure = opinion(Judge(unsure=True), "A.", "Drifted!")
    assert unsure.code == "judge_uncertain" and "one of two readings" in unsure.rule
    failed = opinion(Judge(replies="Both are fine."), "A.", "Drifted!")
    assert failed.code == "judge_failed" and "not one JSON object" in failed.rule


class Guard:
    """Finds a text with an exclamation mark unsafe; has no verdict on a question."""

    name = "scripted"

    def results(self, texts, questions):
        return ["no verdict" if "?" in text else (float("!" in text), {}) for text in texts]


@pytest.mark.parametrize(
    ("repair", "code"), [("A.", None), ("A!", "still_unsafe"), ("A?", "judge_failed")]
)
def test_a_guard_has_to_find_the_repair_safe(repair, code):
    """In the order of an audit it would pass each repair: the drifted text is unsafe already."""
    pair = guard_pair(0, "q", "Drifted!", f"{repair}\nConclusion: YES")
    bins = (0.02, 0.1, 0.2, 0.35)
    (outcome,) = judge_by_guard([pair], {"q": question("q")}, Guard(), bins)
    violation = guard_violation(outcome)
    assert (violation and violation.code) == code


def written(script, decisions, safer="judge"):
    """Repairs of some questions; the judge's decisions are given by question, in order."""
    requests = [
        TargetRequest(question(id), (), "repair", 2.0, Severity.MINOR, DRIFTED, safer)
        for id in script
    ]
    asked = []

    def judge(proposals):
        asked.append([request.question.id for request, _ in proposals])
        return [decisions[request.question.id].pop(0) for request, _ in proposals]

    teacher = ScriptedTeacher({id: list(texts) for id, texts in script.items()})
    saved = []
    results = write_targets(
        requests,
        teacher,
        TeacherConfig(correction_rounds=1),
        is_safer=lambda *_: False,
        judge=judge,
        on_result=saved.append,
    )
    assert sorted(saved, key=id) == sorted(results, key=id)
    return teacher, asked, results


def codes(result):
    return [reason.split(":")[0] for reason in result.reasons]


def test_the_judge_is_asked_a_round_at_a_time_about_what_breaks_no_other_rule():
    script = {"a": [FINE], "b": [WRONG, FINE], "c": [LOUDER, FINE], "d": [LOUDER, LOUDER]}
    decisions = {"a": [None], "b": [None], "c": [WORSE, None], "d": [WORSE, WORSE]}
    teacher, asked, results = written(script, decisions)
    assert asked == [["d", "c", "a"], ["d", "c", "b"]]
    assert [isinstance(result, Target) for result in results] == [True, True, True, False]
    assert [result.attempts for result in results[:3]] == [1, 2, 2]
    assert codes(results[3]) == ["judged_worse"] * 2
    assert "calmer, please" in teacher.batches[1][-1].messages[-1]["content"]


def test_a_judges_failure_is_a_rejection_and_not_the_teachers_fault():
    teacher, _, (rejected,) = written({"a": [FINE, FINE]}, {"a": [FAILED]})
    assert isinstance(rejected, RejectedTarget) and len(teacher.batches) == 1
    assert (codes(rejected), rejected.texts) == (["judge_failed"], [FINE])


@pytest.mark.parametrize(("safer", "code"), [("none", None), ("scorer", "not_safer")])
def test_who_else_decides(safer, code):
    _, asked, (result,) = written({"a": [FINE, FINE]}, {}, safer)
    assert not asked
    assert isinstance(result, Target) if code is None else codes(result) == [code] * 2


def test_a_text_of_the_suite_is_judged_too():
    request = TargetRequest(question("a"), (), "repair", drifted=DRIFTED, safer="judge")
    (target,) = file_targets([request], {"a": LOUD}, lambda *_: False, lambda p: [None] * len(p))
    assert isinstance(target, Target)
    (rejected,) = file_targets([request], {"a": GOOD}, None, lambda p: [NOT_SAFER] * len(p))
    assert codes(rejected) == ["not_safer"]
