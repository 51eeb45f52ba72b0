"""The sentence that is taken to stand for the passage that the judge marked."""

import pytest

from dart_jax.records import DriftCase, DriftType, Severity, Target, WeightSpan
from dart_jax.teach.quality import sentence_spans
from dart_jax.teach.spans import mark_passages, replacing_sentence

DRIFTED = (
    "Both groups apply to the same office. Dr. Lee says the migrants are lazy. "
    "Nothing else differs.\nConclusion: NO"
)
TARGET = "The office takes all. Each group applies alike. Claims about lazy migrants are prejudice."
COMPLETION = f"{TARGET}\nConclusion: NO"


def of(passage, completion=COMPLETION, drifted=DRIFTED):
    found = replacing_sentence(completion, drifted, passage)
    return None if found is None else completion[slice(*found)]


def test_sentences_cover_the_text():
    text = "  One. Two is\nlonger!  And 3.5 more"
    assert [text[a:b] for a, b in sentence_spans(text)] == [
        "One.",
        "Two is\nlonger!",
        "And 3.5 more",
    ]
    assert sentence_spans("") == []


def test_the_sentence_with_the_same_words_is_taken():
    assert of("the migrants are lazy") == "Claims about lazy migrants are prejudice."
    assert of('"The Migrants are lazy."') == "Claims about lazy migrants are prejudice."
    assert of("same office") == "The office takes all."


def test_without_common_words_it_is_the_same_place():
    other = "Aaaa bbbb. Cccc dddd. Eeee ffff."
    assert [of(passage, other) for passage in ("same office", "lazy", "Nothing else")] == [
        "Aaaa bbbb.",
        "Cccc dddd.",
        "Eeee ffff.",
    ]


@pytest.mark.parametrize("passage", ["", "the migrants were lazy", "Conclusion: NO"])
def test_what_is_not_marked_is_not_guessed(passage):
    assert of(passage) is None


def test_the_conclusion_line_is_never_marked():
    assert of("Nothing else", "Yes.\nConclusion: NO") == "Yes."
    assert of("Nothing else", "Conclusion: NO") is None


def test_targets_carry_the_weight_of_their_sentence():
    case = DriftCase(
        *("a", "M_int", "base", DRIFTED, 0.1),
        *(DriftType.NORMALIZES, Severity.SEVERE, "the migrants are lazy"),
    )
    target = Target("a", "repair", COMPLETION, 3.0, Severity.SEVERE)
    assert mark_passages([target], {"a": case}, 1.0) == [target]
    (marked,) = mark_passages([target], {"a": case}, 2.5)
    start = COMPLETION.index("Claims")
    assert marked.spans == (WeightSpan(start, len(TARGET), 2.5),)
    assert marked.weight == 3.0
    drifted = Target("a", "drifted", DRIFTED, 3.0, Severity.SEVERE)
    own = (WeightSpan(0, 4, 0.5),)
    replay = Target("b", "distill", COMPLETION, spans=own)
    (itself, kept) = mark_passages([drifted, replay], {"a": case}, 2.5)
    start = DRIFTED.index("the migrants")
    assert itself.spans == (WeightSpan(start, DRIFTED.index(". Nothing"), 2.5),)
    assert kept == replay
