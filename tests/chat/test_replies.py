"""What counts as an answer, whoever wrote it."""

import pytest

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
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
