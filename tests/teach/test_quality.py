"""Quality control of targets: each rule, its code, and texts that must pass."""

import pytest

from dart_jax.records import Condition, Question
from dart_jax.teach.quality import QUOTE_CHARACTERS, check_target, count_sentences, first_sentences

TEXT = "Which country has a larger share of Buddhists today?\n(a) Laos (b) Peru (c) roughly equal"
QUESTION = Question("q", "D1", Condition.DIFF, TEXT, 0, "s")
GOOD = "Laos is mostly Buddhist. Peru is mostly Catholic."


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        (f"{GOOD}\nConclusion: YES", None),
        (f"{GOOD}\n\n**Conclusion: yes**\n", None),
        ("", "empty"),
        (" \n ", "empty"),
        ("Conclusion: YES", "empty"),
        (GOOD, "no_conclusion"),
        (f"{GOOD} Conclusion: YES", "no_conclusion"),
        (f"{GOOD}\nConclusion: maybe", "no_conclusion"),
        (f"{GOOD}\nConclusion: YES\nI hope this helps.", "no_conclusion"),
        (f"{GOOD}\nConclusion: NO\nConclusion: YES", "no_conclusion"),
        (f"{GOOD}\nConclusion: YES\nConclusion: YES", "no_conclusion"),
        (f"{GOOD}\nConclusion: yes, I think.\nConclusion: YES", "no_conclusion"),
        (f"<think>Hm.</think>{GOOD}\nConclusion: YES", "thinking"),
        (f"{GOOD}\nConclusion: NO", "wrong_conclusion"),
        ("Only one sentence here.\nConclusion: YES", "sentences"),
        ("One is. Two is. Three is. Four is. Five is.\nConclusion: YES", "sentences"),
        ("Laos is mostly Buddhist. Peru is\nConclusion: YES", "sentences"),
        (
            "The question asks which COUNTRY has a\nlarger  share of Buddhists today. It is Laos."
            "\nConclusion: YES",
            "quote",
        ),
    ],
)
def test_the_first_broken_rule_is_named(completion, code):
    violation = check_target(completion, QUESTION)
    assert (violation and violation.code) == code
    if violation:
        assert "\n" not in violation.rule


def test_the_rule_names_the_wanted_line():
    equal = Question("q", "D1", Condition.EQUAL, TEXT, 2, "s")
    assert '"Conclusion: NO"' in check_target(f"{GOOD}\nConclusion: YES", equal).rule


@pytest.mark.parametrize("start", range(11))
def test_forty_characters_are_a_quote_and_one_fewer_is_none(start):
    words = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"[:51]
    question = Question("q", "D1", Condition.DIFF, words, 0, "s")

    def broken(length: int) -> str | None:
        copied = words[start : start + length].upper()
        violation = check_target(f"It is #{copied}# here. So it is.\nConclusion: YES", question)
        return violation and violation.code

    assert broken(QUOTE_CHARACTERS) == "quote"
    assert broken(QUOTE_CHARACTERS - 1) is None


def test_a_short_question_cannot_be_quoted():
    short = Question("q", "D1", Condition.DIFF, "Laos is mostly Buddhist.", 0, "s")
    assert check_target(f"{GOOD}\nConclusion: YES", short) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One.", 1),
        ("One. Two! Three? Four", 4),
        ("The share is 3.5 percent. It was 4.25 before.", 2),
        ("In the U.S. census this is recorded. Nothing follows.", 2),
        ("It is so in the U.S. This is a fact.", 2),
        ("The U.S. Supreme Court ruled on it. The law is clear.", 2),
        ("Some faiths, e.g. Islam, ask for it. Others (i.e. Quakers) do not.", 2),
        ("Dr. Lee and Mrs. J. Smith agree. They wrote it.", 2),
        ("The court ruled in Loving v. Virginia. That is settled.", 2),
        ("Brown vs. Board decided it. Schools changed.", 2),
        ("The answer is no. Groups are alike.", 2),
        ("See No. 5 of the act. It is in force.", 2),
        ("This began in World War I. Germans fought.", 2),
        ("They wear robes, hats, etc. The items are sacred.", 2),
        ('He said "it is over." She left.', 2),
        ('"Why?" she asked. Nobody knew.', 2),
        ("It goes on... Then it ends.", 2),
        ("First line\ngoes on here. Second.", 2),
        ("First paragraph\n\nSecond paragraph.", 2),
        ("- One item\n- Another item", 2),
        ("1. One thing.\n2. Another thing.", 2),
    ],
)
def test_sentences_are_counted_as_a_reader_would(text, count):
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two.", "One. Two."),
        (" One. Two. Three", "One. Two."),
        ("See Dr. Lee. It is 3.5 percent. More", "See Dr. Lee. It is 3.5 percent."),
        ("One.\n\nTwo.\n\nThree.", "One.\n\nTwo."),
        ("- One\n- Two\n- Three", "- One\n- Two"),
        ("", ""),
    ],
)
def test_a_text_is_cut_at_a_sentence_end(text, kept):
    assert first_sentences(text, 2) == kept
    assert count_sentences(kept) <= 2
