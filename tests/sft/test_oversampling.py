"""Weight k in the loss, or k copies: the same gradient, exactly or in expectation."""

import dataclasses

import jax
import numpy as np
import pytest

from dart_jax.records import Severity, Target
from dart_jax.teach.weighting import oversampled


def copies_of(weights, seed):
    """The indices of the examples, each as often as it is drawn."""
    targets = [
        Target(str(n), "repair", "A.", weight, Severity(n % 4 + 1))
        for n, weight in enumerate(weights)
    ]
    return [int(target.question_id) for target in oversampled(targets, seed)]


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
def test_whole_weights_are_copies(packing, make_examples, make_batch, run_gradients, assert_close):
    """The paper's four weights, with the default normalization."""
    weights = (1.0, 2.0, 3.0, 4.0)
    weighted = make_examples(4, weights=weights)
    copies = [dataclasses.replace(weighted[n], weight=1.0) for n in copies_of(weights, 0)]
    assert len(copies) == 10
    found = run_gradients(*make_batch(copies, rows=10, packing=packing, row_length=512))
    assert_close(found, run_gradients(*make_batch(weighted, packing=packing)))


def test_fractions_agree_in_expectation(make_examples, make_batch, run_gradients):
    """The mean over seeds of the gradients of the drawn copies is that of the weighted loss.

    Sums over tokens, before the division: these are what adds up. With 500 seeds the mean is
    off by at most 0.5 / sqrt(500) copies of an example, at one standard error.
    """
    weights = (0.5, 1.25, 2.75, 3.0)
    examples = make_examples(4)

    def summed(index, weight):
        example = dataclasses.replace(examples[index], weight=weight)
        mean = run_gradients(*make_batch([example], rows=1))[0]
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(mean)])
        return flat * example.weight_mass

    alone = np.stack([summed(n, 1.0) for n in range(4)])
    weighted = sum(summed(n, weight) for n, weight in enumerate(weights))
    seeds = 500
    counts = np.zeros(4)
    for seed in range(seeds):
        counts += np.bincount(copies_of(weights, seed), minlength=4)
    drawn = counts / seeds @ alone
    noise = 4 * 0.5 / np.sqrt(seeds) * np.linalg.norm(np.linalg.norm(alone, axis=1))
    assert np.linalg.norm(drawn - weighted) < noise < 0.15 * np.linalg.norm(weighted)
    wrong = np.floor(weights) @ alone
    assert np.linalg.norm(wrong - weighted) > noise, "rounding down would be seen"
