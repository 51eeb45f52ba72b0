"""Reasoning blocks: where they are, and what is left without them."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.prompts.thinking import (
    answer_spans,
    ends_in_thinking,
    holds_thinking,
    json_after_thinking,
    thinking_blocks,
    without_thinking,
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("No block.\n", "No block.\n"),
        ("<think>Hm.</think>\n\nSo.", "So."),
        ("<THINK>Hm.</Think>So.", "So."),
        ("<thinking>a</thinking> b <think>c</think> d", "b  d"),
        ("Hm.</think>So.", "So."),  # the template has opened the block
        ("<think>Say <think> first.</think> Hm.</think> So.", "So."),
        ("[THINK]Hm.[/THINK]So.", "So."),
        ("<think>\n\n</think>", ""),
        ("Think of <thinker> and [think].", "Think of <thinker> and [think]."),
    ],
)
def test_closed_blocks_are_removed(text, left):
    assert without_thinking(text) == left
    assert not holds_thinking(left)


@pytest.mark.parametrize("text", ["<think>Hm.", "<think>a</think> b <think>", "So. <think>Wait"])
def test_a_text_that_ends_in_a_block_has_no_answer(text):
    assert ends_in_thinking(text)
    assert without_thinking(text) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"passage": "<think>They"}', '{"passage": "<think>They"}'),
        ('```json\n{"passage": "a</think>"}\n```', '```json\n{"passage": "a</think>"}\n```'),
        ('<think>{"a": 1}?</think>\n{"passage": "<think>"}', '{"passage": "<think>"}'),
        ('{"a": 1}?</think>', '{"a": 1}?</think>'),  # no JSON: its reader says so
        ("Hm.</think>{}", "{}"),
        ("<think>Hm. {}", None),
        ("No JSON.", "No JSON."),
    ],
)
def test_a_tag_within_json_is_a_quote(text, left):
    assert json_after_thinking(text) == left


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "\n"]), max_size=12))
def test_blocks_and_the_rest_cover_a_text_without_overlap(parts):
    text = "".join(parts)
    blocks, begun = thinking_blocks(text)
    covered = sorted([*blocks, *answer_spans(text)])
    assert all(before[1] <= after[0] for before, after in pairwise(covered))
    assert sum(end - start for start, end in covered) == (len(text) if begun is None else begun)
    assert not any(holds_thinking(text[start:end]) for start, end in answer_spans(text))
