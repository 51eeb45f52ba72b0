"""What counts as an answer, whoever wrote it."""

import pytest

from dart_jax.chat.openai_format import read_response
from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest, TokenLogprobs
from dart_jax.chat.replies import reply_of
from dart_jax.prompts.thinking import UNFINISHED

CUT_OFF = "cut off at max_tokens 64; raise it"


@pytest.mark.parametrize(
    ("text", "is_cut", "may_be_cut", "expected"),
    [
        ("So.", False, False, "So."),
        (" So.\n", False, False, " So.\n"),
        ("<think>Hm.</think>\nSo.", False, False, "So."),
        ("So", True, False, CUT_OFF),
        ("So", True, True, "So"),
        ("<think>Hm.</think>\nSo", True, True, "So"),
        ("<think>Hm", True, True, f"{UNFINISHED}; {CUT_OFF}"),
        ("<think>Hm", False, False, UNFINISHED),
        ("<think>Hm.</think> ", False, False, "empty completion"),
        (" ", False, True, "empty completion"),
    ],
)
def test_an_answer_is_whole_and_without_reasoning(text, is_cut, may_be_cut, expected):
    request = ChatRequest("r", (), max_tokens=64, may_be_cut=may_be_cut)
    result = reply_of(request, text, is_cut, 7, 3)
    assert result in (ChatReply("r", expected, 7, 3), ChatFailure("r", expected))
    assert isinstance(result, ChatReply) == expected.strip().startswith("So")


def test_what_a_judge_quotes_in_its_json_is_no_reasoning():
    request = ChatRequest("r", (), json_schema={"type": "object"})
    answer = '{"passage": "<think>They are"}'
    assert reply_of(request, f"<think>Hm.</think>{answer}", False) == ChatReply("r", answer)
    assert reply_of(request, answer, False) == ChatReply("r", answer)
    assert reply_of(request, "<think>Hm. {", False) == ChatFailure("r", UNFINISHED)


def test_log_probabilities_are_read_where_they_were_asked_for():
    step = {"token": "So", "logprob": -0.5, "top_logprobs": [{"token": "No", "logprob": -1.0}]}
    choice = {"message": {"content": "So"}, "logprobs": {"content": [step]}}
    asked = ChatRequest("r", (), top_logprobs=2)
    found = read_response(asked, {"choices": [choice]})
    assert found.logprobs == (TokenLogprobs("So", {"So": -0.5, "No": -1.0}),)
    assert read_response(ChatRequest("r", ()), {"choices": [choice]}).logprobs == ()
    for absent in (None, {"content": None}):
        assert read_response(asked, {"choices": [choice | {"logprobs": absent}]}).logprobs == ()
    for bad in ([], {"content": [{"token": "So"}]}, {"content": [step | {"logprob": "-1"}]}):
        result = read_response(asked, {"choices": [choice | {"logprobs": bad}]})
        assert result == ChatFailure("r", "the log-probabilities are not in the API's form")
