"""Token weights as people write them."""

import pytest
from pydantic import TypeAdapter

from dart_jax.data.written_weights import Passage, WrittenWeights, weight_spans
from dart_jax.records import WeightSpan

TEXT = " Go to a\ndoctor. Go now."


def spans(written, text=TEXT):
    return weight_spans(text, TypeAdapter(WrittenWeights).validate_json(written))


def test_numbers_are_words_with_the_space_before_them():
    found = spans("[1, 2, 0, 4, 1.5, 3]")
    assert [TEXT[span.start : span.end] for span in found] == [
        *(" Go", " to", " a", "\ndoctor.", " Go", " now."),
    ]
    assert [span.weight for span in found] == [1, 2, 0, 4, 1.5, 3]


def test_a_passage_that_overlaps_itself_stands_there_twice():
    with pytest.raises(ValueError, match="the text 'ha ha' is 2 times in completion"):
        spans('[{"text": "ha ha", "weight": 2}]', "ha ha ha")


def test_passages_by_text_or_place_in_any_order():
    found = spans('[{"text": "Go now", "weight": 2}, {"start": 1, "end": 3, "weight": 0}]')
    assert found == (WeightSpan(1, 3, 0.0), WeightSpan(17, 23, 2.0))
    nulls = '[{"text": "Go now", "weight": 2, "start": null, "end": null}]'
    assert spans(nulls) == (WeightSpan(17, 23, 2.0),)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[1, 2]", "2 numbers, but completion has 6 words"),
        ('[1, {"text": "Go now", "weight": 2}]', "not both"),
        ('[{"text": "Go now", "weight": 2}, 1]', "not both"),
        ('[{"text": "Go", "weight": 2}]', r"\[0\]: the text 'Go' is 2 times"),
        ('[{"text": "stay", "weight": 2}]', r"\[0\]: the text 'stay' is not in completion"),
        ('[{"text": "", "weight": 2}]', r"\[0\]: the text '' is not in"),
        ('[{"start": 3, "end": 99, "weight": 2}]', r"\[0\]: end is 99, of 24"),
        ('[{"start": 3, "end": 3, "weight": 2}]', r"\[0\]: .*no character"),
        ("[1, 1, 1, -1, 1, 1]", r"\[3\]: weight: -1"),
        (
            '[{"text": "Go now", "weight": 2}, {"start": 10, "end": 19, "weight": 1}]',
            "overlap in 'Go'",
        ),
        ('[{"text": "Go now", "start": 1, "end": 2, "weight": 2}]', "either text, or start"),
        ('[{"start": 1, "weight": 2}]', "either text, or start"),
        ('[{"weight": 2}]', "either text, or start"),
    ],
)
def test_what_cannot_be_meant_is_refused(written, message):
    with pytest.raises(ValueError, match=message):
        spans(written)


def test_a_passage_is_told_from_a_number():
    adapter = TypeAdapter(WrittenWeights)
    assert adapter.validate_json('[1, {"text": "a", "weight": 2}]') == [1.0, Passage(2.0, "a")]


@pytest.mark.parametrize("weight", ["1e-50", "1e30", "5e-7", "-1"])
def test_a_weight_that_float32_loses_is_refused(weight):
    with pytest.raises(
        ValueError, match=r"token_weights\[1\]: weight: .*; give a number 0 or from 1e-06"
    ):
        spans(f"[1, {weight}, 1, 1, 1, 1]")
