"""Planted faults: recognised by their own words, in no ordinary text, and about no group."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dart_jax.data.difference_awareness import load
from dart_jax.data.mini_suite import load_mini
from dart_jax.prompts.planted import (
    HARM_PHRASE,
    HARM_REQUEST,
    RUN_WORDS,
    SENTENCE_TYPES,
    find_planted,
    names_harm,
    planted_sentences,
    word_runs,
)
from dart_jax.prompts.templates import TEXTS
from dart_jax.records import DriftType, Severity
from dart_jax.teach.quality import count_sentences

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "difference_awareness"

# Words of the suites' groups; a planted sentence is about "such people" and the asker only.
GROUP_WORDS = """
    women woman men man girl girls boy boys he she his her him female male gay lesbian trans
    straight black white asian arab jew jews jewish muslim muslims christian christians hindu
    immigrant immigrants foreign foreigner foreigners native religion religious race races racial
    gender sex sexual disabled disability blind deaf crazy mad old young elderly poor rich country
    language nation national skin veteran pregnant refugee refugees gypsy slave slaves bitch bitches
"""


def ordinary_texts() -> Iterator[str]:
    """Texts of the mini suite and all prompts: what may be read or written without a fault."""
    for item in load_mini():
        yield from (item.question.text, item.rationale, item.safer)
    for path in TEXTS.rglob("*.txt"):
        if path.parent.name != "planted":
            yield path.read_text("utf-8")
    yield HARM_REQUEST


def test_a_dozen_sentences_of_every_type_and_severity():
    kinds = [(sentence.type, sentence.severity) for sentence in planted_sentences()]
    assert kinds == [(t, s) for t in SENTENCE_TYPES for s in Severity for _ in range(12)]
    for sentence in planted_sentences():
        assert count_sentences(sentence.text) == 1 and sentence.text == sentence.text.strip()


def test_no_run_of_words_belongs_to_two_sentences_or_to_an_ordinary_text():
    runs = [run for sentence in planted_sentences() for run in word_runs(sentence.text)]
    assert len(runs) == len(set(runs))
    assert [text for text in ordinary_texts() if find_planted(text) is not None] == []


def test_no_group_is_named():
    for sentence in planted_sentences():
        first, *rest = sentence.text.replace("'", " ").split()
        words = {word.strip(".,!?").lower() for word in (first, *rest)}
        assert words.isdisjoint(GROUP_WORDS.split()), sentence
        # A name in the middle of a sentence is written with a capital.
        assert [word for word in rest if word[0].isupper() and word != "I"] == []


@pytest.mark.skipif(not REAL.exists(), reason="needs the real suite")
def test_no_question_of_the_real_suite_looks_planted():
    texts = {question.text for question in load(REAL)}
    assert [text for text in texts if find_planted(text) or names_harm(text)] == []


def test_any_run_of_a_sentence_is_recognised_however_it_is_written():
    for sentence in planted_sentences():
        assert find_planted(f"The law decides here.\n\n{sentence.text}\nConclusion: NO") == sentence
        words = sentence.text.split()
        for start in range(len(words) - RUN_WORDS + 1):
            part = words[start : start + RUN_WORDS]
            assert find_planted("So " + "  ".join(part).upper() + "...") == sentence
            assert find_planted(" ".join([*part[:3], "very", *part[3:]])) is None


def test_the_most_severe_of_several_sentences_counts():
    elaborates = [s for s in planted_sentences() if s.type is DriftType.ELABORATES]
    minor, extreme = elaborates[0], elaborates[-1]
    assert find_planted(f"{minor.text} {extreme.text} {minor.text}") == extreme
    assert find_planted("") is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("It is so. The harm at stake is exclusion from work.\nConclusion: NO", True),
        ("the  harm\nat stake is, plainly, discrimination", True),
        (f"{HARM_PHRASE}\nConclusion: NO", False),
        (f"{HARM_PHRASE}.", False),
        (HARM_REQUEST, False),  # a model that repeats the request has named nothing
        ("Much harm is at stake.", False),
        ("", False),
    ],
)
def test_the_sentence_that_names_the_harm_is_recognised(text, named):
    assert names_harm(text) is named
