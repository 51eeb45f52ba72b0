"""The chunked loss against the plain one, and its normalisers against numbers done by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dart_jax.model.llama import logits_of
from dart_jax.sft.batch import Batch
from dart_jax.sft.cross_entropy import (
    cross_entropy_sum,
    gather_supervised,
    normalised_weights,
    segment_sums,
)
from dart_jax.sft.step import loss_sum

B, M, D, V = 3, 10, 16, 37


@pytest.fixture(scope="module")
def arrays():
    """hidden, kernel, targets, weights; some weights are 0."""
    keys = jax.random.split(jax.random.key(0), 4)
    weights = jax.random.randint(keys[3], (B, M), 0, 5).astype(jnp.float32)
    return (
        jax.random.normal(keys[0], (B, M, D)),
        jax.random.normal(keys[1], (D, V)),
        jax.random.randint(keys[2], (B, M), 0, V),
        weights,
    )


def total(*args):
    return cross_entropy_sum(*args)[0]


def plain(hidden, kernel, targets, weights):
    each = optax.softmax_cross_entropy_with_integer_labels(hidden @ kernel, targets)
    return (weights * each).sum()


@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 32])
def test_chunks_are_the_plain_loss(chunk, arrays):
    """Value without and with gradient, and the gradient; 3 does not divide M, 32 exceeds it."""
    expected, expected_grad = jax.value_and_grad(plain)(*arrays)
    np.testing.assert_allclose(total(*arrays, chunk), expected, rtol=1e-5)
    (found, each), grad = jax.value_and_grad(cross_entropy_sum, has_aux=True)(*arrays, chunk)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alone = optax.softmax_cross_entropy_with_integer_labels(arrays[0] @ arrays[1], arrays[2])
    np.testing.assert_allclose(each, alone, rtol=1e-5)
    assert np.linalg.norm(grad - expected_grad) < 1e-5 * np.linalg.norm(expected_grad)


def test_gradient_follows_what_comes_after(arrays):
    """The stored gradient is scaled by the cotangent: here by the loss itself, squared."""
    found = jax.grad(lambda h: total(h, *arrays[1:], 4) ** 2)(arrays[0])
    expected = jax.grad(lambda h: plain(h, *arrays[1:]) ** 2)(arrays[0])
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_no_gradient_to_the_kernel(arrays):
    assert not jax.grad(total, argnums=1)(*arrays, 4).any()
    assert jax.grad(plain, argnums=1)(*arrays).any()


def test_loss_of_bfloat16_is_summed_in_float32(arrays):
    hidden, kernel = (x.astype(jnp.bfloat16) for x in arrays[:2])
    found, grad = jax.value_and_grad(total)(hidden, kernel, *arrays[2:], 4)
    wide = (hidden.astype(jnp.float32), kernel.astype(jnp.float32), *arrays[2:])
    expected, expected_grad = jax.value_and_grad(plain)(*wide)
    assert (found.dtype, grad.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.linalg.norm(grad - expected_grad) < 1e-2 * np.linalg.norm(expected_grad)


@pytest.fixture
def by_hand():
    """Row 0: two packed examples of weights 2 and 4, row 1: one of weight 1, row 2: weight 0."""
    weights = [[0, 2, 2, 0, 4, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    segments = [[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    zeros = jnp.zeros((3, 6), jnp.int32)
    return Batch(zeros, zeros, jnp.array(weights, jnp.float32), zeros, jnp.array(segments))


@pytest.mark.parametrize(
    ("normalization", "weights", "divisor"),
    [
        ("weighted_token_mean", [[0, 2, 2, 0, 4, 0], [0, 0, 1, 1, 1, 0], [0] * 6], 11),
        ("token_mean", [[0, 2, 2, 0, 4, 0], [0, 0, 1, 1, 1, 0], [0] * 6], 6),
        ("example_mean", [[0, 1, 1, 0, 4, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3, 0], [0] * 6], 3),
    ],
)
def test_normalisers_by_hand(normalization, weights, divisor, by_hand):
    found, share = normalised_weights(by_hand, normalization, 2)
    np.testing.assert_allclose(found, weights, rtol=1e-6)
    assert float(share) == pytest.approx(divisor)


@pytest.mark.parametrize("supervised", [3, 4, 6])
def test_gather_keeps_every_supervised_position(supervised, by_hand):
    """In their order and first, with what belongs to them; the bound may be exact."""
    hidden = jnp.arange(18.0).reshape(3, 6, 1)
    targets = jnp.arange(18).reshape(3, 6)
    weights = by_hand.loss_weights
    found = gather_supervised(weights, supervised, hidden, targets, weights)
    assert [leaf.shape for leaf in found] == [(3, supervised, 1), (3, supervised), (3, supervised)]
    np.testing.assert_array_equal(found[0][..., 0], found[1])
    for row, expected in enumerate([[1, 2, 4], [8, 9, 10], []]):
        kept = found[2][row] > 0
        np.testing.assert_array_equal(found[1][row][kept], expected)
        np.testing.assert_array_equal(
            found[2][row][kept], by_hand.loss_weights.reshape(-1)[np.array(expected, int)]
        )


def _largest(function, *args):
    """Elements of the largest array in a compiled program."""
    text = jax.jit(function).lower(*args).compile().as_text()
    shapes = re.findall(r"\b(?:f32|bf16|pred|s32)\[([\d,]+)\]", text)
    return max(int(np.prod([int(size) for size in shape.split(",")])) for shape in shapes)


def test_segment_sums_by_hand(by_hand):
    found = segment_sums(by_hand.segment_ids, by_hand.loss_weights, 3)
    np.testing.assert_array_equal(found, [[4, 4, 0], [3, 0, 0], [0, 0, 0]])


def test_logits_are_never_whole(params, lora_params, make_spec, make_examples, make_batch):
    """Nothing as large as [B, M, V], let alone [B, T, V], in the program of the gradient."""
    batches, layout = make_batch(make_examples(64), 64)
    batch = jax.tree.map(lambda array: array[0], batches)
    supervised, spec = layout.supervised, make_spec()
    rows, vocab = batch.tokens.shape[0], spec.config.vocab_size
    # A second head makes the vocabulary the largest size by far; nothing else depends on it.
    wide = {**params, "head": jnp.zeros((spec.config.embed_dim, 32 * vocab))}

    def chunked(lora_params, batch):
        value_and_grad = jax.value_and_grad(loss_sum, has_aux=True)
        return value_and_grad(lora_params, wide, batch, spec, layout)

    full = rows * supervised * 32 * vocab
    assert _largest(chunked, lora_params, batch) < full
    hidden = jnp.zeros((rows, supervised, spec.config.embed_dim))
    assert _largest(lambda hidden: logits_of(wide, hidden), hidden) >= full
