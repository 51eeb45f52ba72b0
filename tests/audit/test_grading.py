"""Grades of single answers: validated, asked again with the problem, or a failure."""

import numpy as np
import pytest

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.grading import Ask, grade, likely_grades, replies_for
from dart_jax.chat.protocol import ChatFailure, ChatReply
from dart_jax.records import JudgeFailure

ALLOWED = ("good", "bad")


def read(text, judge):
    return (text, judge) if text in ALLOWED else f"{len(text)} letters are no grade"


def ask(id, model="M0"):
    return Ask(id, model, ({"role": "user", "content": f"grade {id}"},), read)


def correction(problem):
    return {"role": "user", "content": f"wrong: {problem}"}


class Scripted:
    """Gives each request the next of the texts scripted for its id; None is a failed request."""

    name = "service:x"

    def __init__(self, **scripts):
        self.scripts, self.requests, self.forgotten = scripts, [], []

    def forget(self, requests, reason):
        self.forgotten += requests

    def complete(self, requests, on_result=None):
        self.requests += requests
        for request in requests:
            text = self.scripts[request.id.split()[1]].pop(0)
            failed = ChatFailure(request.id, "timed out")
            on_result(failed if text is None else ChatReply(request.id, text))


@pytest.fixture
def graded():
    """A function: grade with scripted replies; the results and the service."""

    def run(attempts=3, **scripts):
        chat, found = Scripted(**scripts), []
        asks = [ask(id) for id in scripts]
        grade(
            asks, chat, JudgeConfig(attempts=attempts), {"type": "object"}, correction, found.append
        )
        return found, chat

    return run


def test_a_valid_reply_is_signed_and_asked_for_once(graded):
    found, chat = graded(a=["good"], b=["bad"])
    assert found == [("good", "service:x"), ("bad", "service:x")]
    assert len(chat.requests) == 2 and chat.requests[0].json_schema == {"type": "object"}


def test_a_bad_reply_is_sent_back_with_what_is_wrong_and_never_quoted(graded):
    found, chat = graded(a=["evil text", "evil text", "good"])
    assert found == [("good", "service:x")]
    contents = [request.messages[-1]["content"] for request in chat.requests]
    assert contents[1] == "grade a\n\nwrong: 9 letters are no grade"
    assert len(set(contents)) == 3, "a response store would give the same reply again"
    assert not any("evil" in content for content in contents)


def test_a_failed_request_is_asked_again_as_it_was(graded):
    found, chat = graded(a=[None, "good"])
    assert found == [("good", "service:x")]
    assert chat.requests[0].messages == chat.requests[1].messages


@pytest.mark.parametrize(
    ("last", "reason"), [(None, "timed out"), ("worst", "5 letters are no grade")]
)
def test_after_the_last_attempt_it_is_a_failure(last, reason, graded):
    found, _ = graded(attempts=2, a=["x", last], b=["good"])
    assert found == [("good", "service:x"), JudgeFailure("a", "M0", reason, 2, "service:x")]


def test_the_replies_behind_a_failure_are_forgotten_and_no_others(graded):
    _, chat = graded(a=["worse", None, "worst"], b=["worse", "good"], c=[None] * 3)
    first, third = (r for r in chat.requests[:1] + chat.requests[-2:] if r.id == "M0 a")
    assert chat.forgotten == [first, third] and first.messages != third.messages


def test_the_likeliest_allowed_reply_is_the_grade():
    found = []
    rows = np.array([[-1.0, -2.0, -3.0], [-3.0, -2.0, -1.0], [np.nan] * 3])
    asks = [ask("a"), ask("b"), ask("c")]
    likely_grades(asks, ["good", "bad", "not allowed"], lambda *_: rows, "local:m", found.append)
    assert found[:2] == [("good", "local:m"), ("bad", "local:m")]
    assert found[2] == JudgeFailure("c", "M0", "the prompt leaves no room", 1, "local:m")


def test_replies_differ_in_the_grade_only():
    found = replies_for({"outcome": ALLOWED})
    assert found[1] == '{"reason": "", "passage": "", "outcome": "bad"}'
    both = replies_for({"harmful": (True, False), "refusal": ("full", "none")})
    assert len(both) == 4
    assert both[0] == '{"reason": "", "passage": "", "harmful": true, "refusal": "full"}'
