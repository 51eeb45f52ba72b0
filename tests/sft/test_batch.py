"""Rows that line up, alone and packed."""

import numpy as np
import pytest

from dart_jax.model.packed_attention import Layout
from dart_jax.sft.batch import fill_row, make_step_batch, shared_prefix
from dart_jax.sft.examples import Example

P, Q, R, X, Y, Z, END = range(11, 18)
FIRST = Example("a", (P, Q, X, Y, END), prompt_length=2, weight=2.0)
SECOND = Example("b", (P, R, Z, END), prompt_length=2, weight=1.0)


def _assert_row(row, tokens, targets, loss_weights, positions, segment_ids):
    expected = (tokens, targets, loss_weights, positions, segment_ids)
    for found, wanted in zip(row, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_row_of_the_docstring():
    row = fill_row([FIRST], 0, 8)
    _assert_row(
        row,
        [P, Q, X, Y, END, 0, 0, 0],
        [Q, X, Y, END, 0, 0, 0, 0],
        [0, 2, 2, 2, 0, 0, 0, 0],
        [0, 1, 2, 3, 4, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
    )
    assert [array.dtype for array in row] == [np.int32] * 2 + [np.float32] + [np.int32] * 2


def test_packed_row_of_the_docstring():
    _assert_row(
        fill_row([FIRST, SECOND], 1, 8),
        [P, Q, X, Y, END, R, Z, END],
        [0, X, Y, END, 0, Z, END, 0],
        [0, 2, 2, 2, 0, 1, 1, 0],
        [0, 1, 2, 3, 4, 1, 2, 3],
        [-1, 1, 1, 1, 1, 2, 2, 2],
    )


def test_packed_row_without_prefix():
    _assert_row(
        fill_row([FIRST, SECOND], 0, 10),
        [P, Q, X, Y, END, P, R, Z, END, 0],
        [Q, X, Y, END, 0, R, Z, END, 0, 0],
        [0, 2, 2, 2, 0, 0, 1, 1, 0, 0],
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 0],
        [1, 1, 1, 1, 1, 2, 2, 2, 2, 0],
    )


@pytest.mark.parametrize("prefix", [0, 5])
def test_weighted_targets_are_the_completions(prefix, make_examples):
    examples = make_examples(20, weights=(1.0, 3.0))
    row = fill_row(examples, prefix, 800)
    for segment, example in enumerate(examples, 1):
        mine = row.segment_ids == segment
        completion = example.tokens[example.prompt_length :]
        assert tuple(row.targets[mine & (row.loss_weights > 0)]) == completion
        assert set(row.loss_weights[mine]) == {0.0, example.weight}
    assert not row.loss_weights[row.segment_ids < 1].any()


def test_full_row_has_no_padding(make_examples):
    example = make_examples(1)[0]
    row = fill_row([example], 0, len(example.tokens))
    assert row.segment_ids.all() and row.loss_weights[-1] == 0


def test_empty_row_is_all_padding():
    assert not any(array.any() for array in fill_row([], 5, 8))


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([(P, Q, R), (P, Q, X)], 2),
        ([(P, Q, R), (P, Q, R)], 2),
        ([(P,), (P, Q)], 0),
        ([(P, Q), (Q, P)], 0),
        ([(P, Q, R, X)], 3),
    ],
)
def test_prefix_ends_before_the_last_token_of_every_prompt(prompts, expected):
    """That token predicts the completion's first."""
    examples = [Example("e", (*prompt, Z, END), len(prompt), 1.0) for prompt in prompts]
    assert shared_prefix(examples) == expected


def test_step_batch_says_which_example_is_where():
    layout = Layout(prefix=1, slot=4, segments=2, supervised=5)
    found = make_step_batch([FIRST, SECOND], [[[1, 0], []], [[0], [1]]], 8, layout)
    assert [array.shape for array in found.batch] == [(2, 2, 8)] * 5
    np.testing.assert_array_equal(found.examples, [[[1, 0], [-1, -1]], [[0, -1], [1, -1]]])
    _assert_row((x[0, 0] for x in found.batch), *fill_row([SECOND, FIRST], 1, 8))
    assert not any(array[0, 1].any() for array in found.batch)
