"""Phrases in a plain text file: each sign of the small language, and lines that are none."""

import re

import pytest

from dart_jax.audit.phrases import load_phrases, words_of


@pytest.fixture
def found(tmp_path):
    """A function: whether a phrase is in a sentence."""

    def look(phrase: str, sentence: str) -> bool:
        path = tmp_path / "words.txt"
        path.write_text(
            "cannot = cannot | am unable to # a comment\n"
            f"polite = please |\n  kindly\n[act]\n{phrase}\n"
        )
        return bool(load_phrases(path)["act"].search(words_of(sentence)))

    return look


def test_contractions_are_written_out_and_punctuation_is_dropped():
    assert words_of("I'm sorry, but I can’t!") == " i am sorry but i cannot "
    assert words_of("It isn't; they won't, we'd, let's.") == (
        " it is not they will not we would let us "
    )
    assert words_of("Max's dogs' bowl: can not.") == " max dogs bowl cannot "
    assert words_of("...") == " "


@pytest.mark.parametrize(
    ("phrase", "yes", "no"),
    [
        ("no reason", "There is no reason.", "There is no season."),
        ("help*", "We are helping.", "A whelp."),
        ("i <cannot> go", "I'm unable to go.", "I can go."),
        ("<polite>? go", "Just go.", "Just sit."),
        ("(a | an) act", "It is an act.", "It is the act."),
        ("not (very)? good", "Not good.", "Not so good."),
        ("not? good", "Good.", "Bad."),
        ("no .. way", "No other safe way.", "No one two three four way."),
        ("no ... way", "No one two three four five way.", "No."),
        ("^ stop", "Stop now.", "Do not stop."),
        ("stop $", "Do not stop.", "Stop now."),
        ("act", "An act.", "A fact."),
    ],
)
def test_each_sign(found, phrase, yes, no):
    assert found(phrase, yes)
    assert not found(phrase, no)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("[act]\ni <can> go\n", "2: <can> is not defined"), ("words alone\n", "1: neither")],
)
def test_a_line_that_is_none_is_named(tmp_path, text, problem):
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}:{problem}")):
        load_phrases(path)
