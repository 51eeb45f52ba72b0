"""Questions that are answered by a letter."""

import math

import pytest

from dart_jax.prompts.letters import NO_ROOM, LetterAnswer, letter_messages, read_letter


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("(b)", 1),
        ("b)", 1),
        ("C", 2),
        (" **a.**\n", 0),
        ("The answer is (b), since (b) is larger.", 1),
        ("(a) or (b)", None),
        ("A country with two names.", None),
        ("UNESCO (UNA)", None),
        ("(d)", None),
        ("", None),
    ],
)
def test_a_letter_is_read_where_one_and_only_one_is_named(answer, option):
    assert read_letter(answer) == option


def test_the_question_stands_in_the_message_as_it_is():
    [message] = letter_messages("Who pays $5?\n(a) X (b) Y (c) neither")
    assert message["role"] == "user"
    assert message["content"].startswith("Who pays $5?\n(a) X (b) Y (c) neither\n\n")
    assert "United States" not in message["content"]
    [american] = letter_messages("Who?", american=True)
    assert "United States" in american["content"] and "Who?" in american["content"]


def test_an_answer_has_an_option_or_a_problem():
    answer = LetterAnswer("q", "M0", 1, (math.log(0.1), math.log(0.5), math.log(0.2)), None)
    assert answer.mass == pytest.approx(0.8) and answer.had_room
    none = LetterAnswer("q", "M0", None, None, NO_ROOM)
    assert none.mass is None and not none.had_room
    with pytest.raises(ValueError, match="exactly when"):
        LetterAnswer("q", "M0", None, None, None)
