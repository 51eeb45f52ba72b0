"""How the peer cuts, pads and labels its batches."""

import numpy as np

from dart_jax.bench.hf_train import collate, micro_batches, padded_tokens
from dart_jax.sft.examples import Example


def example(length, prompt=1):
    return Example(f"e{length}", tuple(range(1, length + 1)), prompt, 1.0)


def test_micro_batches_are_cut_from_sorted_lengths():
    examples = [example(n) for n in (3, 9, 5, 7, 2)]
    lengths = [[len(e.tokens) for e in piece] for piece in micro_batches(examples, 2)]
    assert lengths == [[9, 7], [5, 3], [2]]
    assert padded_tokens(examples, 2) == 2 * 9 + 2 * 5 + 2
    assert padded_tokens(examples, 1) == 9 + 7 + 5 + 3 + 2


def test_collate():
    found = collate([example(4, prompt=2), example(2, prompt=1)])
    np.testing.assert_array_equal(found["input_ids"], [[1, 2, 3, 4], [1, 2, 0, 0]])
    np.testing.assert_array_equal(found["attention_mask"], [[1, 1, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(found["labels"], [[-100, -100, 3, 4], [-100, 2, -100, -100]])
