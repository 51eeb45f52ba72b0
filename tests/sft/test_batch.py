"""Rows that line up, epochs that visit every example once."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from dart_jax.sft.batch import (
    LENGTH_BUCKET,
    SUPERVISED_BUCKET,
    WINDOW,
    epoch_batches,
    fill_row,
    make_step_batch,
)
from dart_jax.sft.examples import Example


def test_row_of_the_docstring():
    p, q, x, y, end = 11, 12, 13, 14, 15
    row = fill_row(Example("a", (p, q, x, y, end), prompt_length=2, weight=2.0), 6)
    np.testing.assert_array_equal(row.tokens, [p, q, x, y, end, 0])
    np.testing.assert_array_equal(row.targets, [q, x, y, end, 0, 0])
    np.testing.assert_array_equal(row.loss_weights, [0, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(row.positions, [0, 1, 2, 3, 4, 0])
    np.testing.assert_array_equal(row.segment_ids, [1, 1, 1, 1, 1, 0])
    assert [array.dtype for array in row] == [np.int32] * 2 + [np.float32] + [np.int32] * 2


def test_weighted_targets_are_the_completion(make_examples):
    for example in make_examples(20, weights=(1.0, 3.0)):
        row = fill_row(example, 40)
        completion = example.tokens[example.prompt_length :]
        assert tuple(row.targets[row.loss_weights > 0]) == completion
        assert row.loss_weights.sum() == example.weight * len(completion)
        assert not row.loss_weights[row.segment_ids == 0].any()


def test_full_row_has_no_padding(make_examples):
    example = make_examples(1)[0]
    row = fill_row(example, len(example.tokens))
    assert row.segment_ids.all() and row.loss_weights[-1] == 0


@pytest.mark.parametrize("n", [1, 7, 8, 64, 65, 200])
def test_each_example_once_an_epoch(n, make_examples):
    batches = epoch_batches(make_examples(n), 8, seed=3, epoch=1)
    assert Counter(i for batch in batches for i in batch) == Counter(range(n))
    sizes = Counter(map(len, batches))
    assert sizes.pop(8, 0) == n // 8
    assert sizes == ({n % 8: 1} if n % 8 else {})


def test_order_depends_on_seed_and_epoch_only(make_examples):
    examples = make_examples(100)
    first = epoch_batches(examples, 8, seed=3, epoch=1)
    heavier = [dataclasses.replace(e, id="x", weight=9.0) for e in examples]
    assert first == epoch_batches(heavier, 8, seed=3, epoch=1)
    assert first != epoch_batches(examples, 8, seed=4, epoch=1)
    assert first != epoch_batches(examples, 8, seed=3, epoch=2)


def test_batch_mates_are_of_similar_length(make_examples):
    """Padding is less than half of that of batches cut from a shuffled order."""
    examples = make_examples(8 * WINDOW)
    lengths = np.array([len(e.tokens) for e in examples])

    def padding(batches):
        return sum(lengths[b].max() - lengths[i] for b in batches for i in b)

    shuffled = np.random.default_rng(0).permutation(len(examples)).reshape(-1, 8).tolist()
    assert padding(epoch_batches(examples, 8, 0, 0)) < padding(shuffled) / 2


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_short_batch_is_filled_with_empty_rows(micro_batches, make_examples):
    examples = make_examples(5, weights=(2.0,))
    found = make_step_batch(examples, 8, micro_batches)
    assert found.ids == ("e0", "e1", "e2", "e3", "e4")
    shape = (micro_batches, 8 // micro_batches, LENGTH_BUCKET)
    assert [array.shape for array in found.batch] == [shape] * 5
    rows = [array.reshape(8, -1) for array in found.batch]
    for index, example in enumerate(examples):
        for array, expected in zip(rows, fill_row(example, LENGTH_BUCKET), strict=True):
            np.testing.assert_array_equal(array[index], expected)
    assert not any(array[5:].any() for array in rows)


def test_shapes_come_in_buckets():
    """Length and bound are rounded up; the bound covers every row and never exceeds the length."""
    long = Example("long", (1,) * (LENGTH_BUCKET + 1), LENGTH_BUCKET, 1.0)
    talkative = Example("talkative", (1,) * LENGTH_BUCKET, 1, 1.0)
    both = make_step_batch([long, talkative], 2, 1)
    assert both.batch.tokens.shape == (1, 2, 2 * LENGTH_BUCKET)
    assert both.supervised == LENGTH_BUCKET
    assert make_step_batch([long], 2, 1).supervised == SUPERVISED_BUCKET
    assert (both.batch.loss_weights > 0).sum(axis=-1).max() <= both.supervised
