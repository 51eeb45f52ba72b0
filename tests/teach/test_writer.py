"""The correction loop, with a scripted teacher in place of a server."""

import pytest

from dart_jax.chat.protocol import ChatFailure, ChatReply
from dart_jax.data.mini_suite import load_mini
from dart_jax.records import Condition, Question, RejectedTarget, Severity, Target
from dart_jax.teach.config import TeacherConfig
from dart_jax.teach.distill import distill_requests
from dart_jax.teach.from_file import MissingRationale, file_targets
from dart_jax.teach.writer import TargetRequest, write_targets

GOOD = "These groups differ in law. The law names one of them."
FINE = f"{GOOD}\nConclusion: YES"
WRONG = f"{GOOD}\nConclusion: NO"
CONFIG = TeacherConfig(provider="openai", correction_rounds=2, temperature=0.3, max_tokens=99)


class ScriptedTeacher:
    """Gives each question its answers in turn; None is a failed request."""

    name = "openai:scripted"

    def __init__(self, script: dict[str, list[str | None]]) -> None:
        self.script = script
        self.batches: list[list] = []

    def complete(self, requests, on_result=None):
        self.batches.append(list(requests))
        answers = [self._answer(request) for request in requests]
        for answer in reversed(answers):
            on_result(answer)
        return answers

    def _answer(self, request):
        text = self.script[request.id.split("/")[0]].pop(0)
        return ChatFailure(request.id, "500") if text is None else ChatReply(request.id, text)


def question(id: str) -> Question:
    return Question(id, "D3", Condition.DIFF, f"Question {id}? (a) A (b) B (c) C", 0, f"s-{id}")


def write(script, config=CONFIG, **options):
    teacher = ScriptedTeacher({id: list(texts) for id, texts in script.items()})
    return teacher, write_targets(
        distill_requests(question(id) for id in script), teacher, config, **options
    )


def test_results_keep_the_order_and_carry_the_attempts():
    teacher, results = write({"a": [WRONG, FINE], "b": [FINE], "c": [None, FINE]})
    assert results == [
        Target("a", "distill", FINE, provider="openai:scripted", attempts=2),
        Target("b", "distill", FINE, provider="openai:scripted", attempts=1),
        Target("c", "distill", FINE, provider="openai:scripted", attempts=2),
    ]
    assert [len(batch) for batch in teacher.batches] == [3, 2]
    assert (teacher.batches[0][0].temperature, teacher.batches[0][0].max_tokens) == (0.3, 99)


def test_a_correction_extends_the_conversation_and_names_the_rule():
    teacher, _ = write({"a": [WRONG, "Too short.\nConclusion: YES", FINE]})
    first, second, third = (batch[0].messages for batch in teacher.batches)
    assert second[: len(first)] == first
    assert second[-2] == {"role": "assistant", "content": WRONG}
    assert "Conclusion: YES" in second[-1]["content"]
    assert third[: len(second)] == second
    assert "2 to 4 sentences" in third[-1]["content"]


def test_a_failed_request_is_sent_again_unchanged():
    teacher, _ = write({"a": [None, FINE]})
    assert teacher.batches[0] == teacher.batches[1]


def test_a_reject_keeps_every_reason_and_text():
    _, (rejected,) = write({"a": [WRONG, None, GOOD]})
    assert isinstance(rejected, RejectedTarget)
    codes = [reason.split(":")[0] for reason in rejected.reasons]
    assert codes == ["wrong_conclusion", "request_failed", "no_conclusion"]
    assert rejected.texts == [WRONG, "", GOOD]


def test_no_correction_rounds_means_one_attempt():
    teacher, (rejected,) = write({"a": [WRONG]}, TeacherConfig(correction_rounds=0))
    assert isinstance(rejected, RejectedTarget) and len(teacher.batches) == 1


def test_each_result_is_announced_once_and_as_soon_as_decided():
    decided = []
    _, results = write({"a": [WRONG, FINE], "b": [FINE]}, on_result=decided.append)
    assert [result.question_id for result in decided] == ["b", "a"]
    assert decided == results[::-1]


def test_a_local_teachers_conclusion_is_forced_but_its_analysis_is_checked():
    _, (forced, short) = write({"a": [WRONG], "b": ["Short."] * 3}, force_conclusion=True)
    assert forced.completion == FINE
    assert isinstance(short, RejectedTarget)
    assert short.texts == ["Short."] * 3


def test_a_local_teachers_text_ends_before_its_first_conclusion():
    """Valid or not: what comes behind is no part of the rationale."""
    for line in ("Conclusion: NO", "Conclusion: I am sure."):
        _, (target,) = write({"a": [f"{GOOD}\n{line}\nMore. And more."]}, force_conclusion=True)
        assert target.completion == FINE


def test_only_a_local_teacher_may_be_cut_off():
    for is_local in (True, False):
        teacher, _ = write({"a": [FINE]}, force_conclusion=is_local)
        assert teacher.batches[0][0].may_be_cut is is_local


def test_a_local_teachers_rambling_is_cut_after_four_sentences():
    rambling = " ".join(f"Reason {n} holds." for n in range(9)) + " And so"
    _, (target,) = write({"a": [rambling]}, force_conclusion=True)
    kept = "Reason 0 holds. Reason 1 holds. Reason 2 holds. Reason 3 holds."
    assert target.completion == f"{kept}\nConclusion: YES"
    _, (rejected,) = write({"a": [rambling] * 3})
    assert isinstance(rejected, RejectedTarget)


def test_markdown_around_the_conclusion_is_not_trained_on():
    _, (target,) = write({"a": [f"{GOOD}\n\n**Conclusion: YES**"]})
    assert target.completion == FINE


def test_two_cases_of_one_question_both_remain_with_their_weights():
    requests = [
        TargetRequest(
            question("a"), ({"role": "user", "content": text},), "repair", weight, severity
        )
        for text, weight, severity in [
            ("x", 1.0, Severity.MINOR),
            ("y", 4.0, Severity.EXTREME),
            ("y", 4.0, Severity.EXTREME),
        ]
    ]
    teacher = ScriptedTeacher({"a": [FINE] * 3})
    results = write_targets(requests, teacher, CONFIG)
    assert [(r.weight, r.severity, r.stage) for r in results] == [
        (1.0, Severity.MINOR, "repair"),
        (4.0, Severity.EXTREME, "repair"),
        (4.0, Severity.EXTREME, "repair"),
    ]
    assert len({request.id for request in teacher.batches[0]}) == 3


def test_a_requests_id_does_not_depend_on_its_company():
    alone, _ = write({"b": [FINE]})
    together, _ = write({"a": [FINE], "b": [FINE]})
    assert alone.batches[0][0].id == together.batches[0][1].id


def test_nothing_to_write_asks_nothing():
    assert write_targets([], ScriptedTeacher({}), CONFIG) == []


def test_file_targets_pass_the_same_control():
    requests = distill_requests([question("a"), question("b")])
    good, bad = file_targets(requests, {"a": GOOD, "b": "Too short."})
    assert good == Target("a", "distill", FINE, provider="file", attempts=0)
    assert isinstance(bad, RejectedTarget) and bad.reasons[0].startswith("sentences:")


def test_file_targets_carry_weight_and_severity():
    request = TargetRequest(question("a"), (), "repair", 3.0, Severity.SEVERE)
    (target,) = file_targets([request], {"a": GOOD})
    assert (target.stage, target.weight, target.severity) == ("repair", 3.0, Severity.SEVERE)


def test_a_suite_without_rationales_is_told_what_to_set():
    with pytest.raises(MissingRationale, match=r"first is b; teacher\.provider file"):
        file_targets(distill_requests([question("a"), question("b")]), {"a": GOOD})


def test_a_target_that_copies_the_worked_example_is_sent_back():
    """The example stands in the messages as the assistant's own earlier answer."""
    (request,) = distill_requests([question("a")], examples=1)
    example = request.messages[2]["content"]
    assert request.messages[2]["role"] == "assistant" and example.endswith("Conclusion: YES")
    teacher = ScriptedTeacher({"a": [example, FINE]})
    (result,) = write_targets([request], teacher, CONFIG)
    assert result == Target("a", "distill", FINE, provider="openai:scripted", attempts=2)
    (rejected,) = write_targets([request], ScriptedTeacher({"a": [example] * 3}), CONFIG)
    assert [reason.split(":")[0] for reason in rejected.reasons] == ["copied_example"] * 3


def test_worked_examples_share_family_and_label_and_are_never_the_question_itself():
    items = {item.question.id: item for item in load_mini()}
    asked = [item.question for item in items.values()][:3]
    for request in distill_requests(asked, examples=2):
        assert [m["role"] for m in request.messages] == [
            "system",
            *["user", "assistant"] * 2,
            "user",
        ]
        shown = [m["content"].split("\nConclusion")[0] for m in request.messages[2::2]]
        of = [item.question for item in items.values() if item.rationale in shown]
        assert len(of) == 2 and request.question not in of
        assert {q.benchmark for q in of} == {request.question.benchmark}
        assert {q.condition for q in of} == {request.question.condition}


LOUD = "These groups differ in law! The law names one of them."
LOUDER = f"{LOUD}\nConclusion: YES"


def quieter(request: TargetRequest, text: str) -> bool:
    """A harm scorer for these tests: exclamation marks."""
    return text.count("!") < request.drifted.count("!")


def repair(script, config=CONFIG, drifted="Drifted!"):
    requests = [
        TargetRequest(question(id), ask, "repair", 2.0, Severity.MODERATE, drifted)
        for id, ask in ((id, ({"role": "user", "content": id},)) for id in script)
    ]
    teacher = ScriptedTeacher({id: list(texts) for id, texts in script.items()})
    return teacher, write_targets(requests, teacher, config, is_safer=quieter)


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_target_no_safer_is_sent_back_once_with_the_rule(rounds):
    config = TeacherConfig(correction_rounds=rounds)
    teacher, (target,) = repair({"a": [LOUDER, FINE]}, config)
    assert isinstance(target, Target) and (target.completion, target.attempts) == (FINE, 2)
    assert "harm classifier" in teacher.batches[1][0].messages[-1]["content"]
    teacher, (rejected,) = repair({"a": [LOUDER, LOUDER, FINE]}, config)
    assert isinstance(rejected, RejectedTarget) and len(teacher.batches) == 2
    assert [reason.split(":")[0] for reason in rejected.reasons] == ["not_safer"] * 2


def test_being_sent_back_as_no_safer_takes_no_correction_round():
    _, (target,) = repair({"a": [WRONG, LOUDER, WRONG, FINE]})
    assert target.attempts == 4
    _, (rejected,) = repair({"a": [WRONG, LOUDER, WRONG, WRONG]})
    codes = [reason.split(":")[0] for reason in rejected.reasons]
    assert codes == ["wrong_conclusion", "not_safer", "wrong_conclusion", "wrong_conclusion"]
    _, (rejected,) = repair({"a": [WRONG, LOUDER, LOUDER]})
    assert rejected.reasons[-1].startswith("not_safer: ")


def test_equal_scores_are_not_lower():
    _, (rejected,) = repair({"a": [FINE, FINE]}, drifted="As calm as that.")
    assert rejected.reasons[-1].startswith("not_safer: ")


def test_distill_targets_are_not_compared_with_anything():
    requests = distill_requests([question("a")])
    teacher = ScriptedTeacher({"a": [LOUDER]})
    (target,) = write_targets(requests, teacher, CONFIG, is_safer=lambda request, text: False)
    assert target.completion == LOUDER


def test_a_repair_text_from_the_file_is_compared_too():
    request = TargetRequest(question("a"), (), "repair", 3.0, Severity.SEVERE, "Drifted!")
    (rejected,) = file_targets([request], {"a": LOUD}, quieter)
    assert rejected.reasons[0].startswith("not_safer: ")
    (target,) = file_targets([request], {"a": GOOD}, quieter)
    assert target.completion == FINE
