"""The packing mask by hand, and grouped-query attention head by head."""

import jax
import jax.numpy as jnp
import numpy as np

from dart_jax.model.attention import attend, attention_bias, segment_mask


def test_segment_mask_by_hand():
    """Two rows: segments alone, and after a token that they share."""
    positions = jnp.array([[0, 1, 2, 0, 1, 0], [0, 1, 2, 1, 2, 0]])
    segment_ids = jnp.array([[1, 1, 1, 2, 2, 0], [-1, 1, 1, 2, 2, 0]])
    expected = [
        [
            [1, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 1, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        [
            [1, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 0, 0, 1, 0, 0],
            [1, 0, 0, 1, 1, 0],
            [0, 0, 0, 0, 0, 0],
        ],
    ]
    np.testing.assert_array_equal(segment_mask(positions, segment_ids), expected)


def test_attend_is_softmax_attention_of_each_head():
    """Six query heads on two kv heads: the first three share the first."""
    B, T, N, H, K = 2, 5, 6, 4, 2
    keys = jax.random.split(jax.random.key(0), 3)
    q = np.asarray(jax.random.normal(keys[0], (B, T, N, H)))
    k, v = (np.asarray(jax.random.normal(key, (B, K, T, H))) for key in keys[1:])
    mask = np.broadcast_to(np.tril(np.ones((T, T), bool)), (B, T, T))
    found = attend(
        jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), attention_bias(jnp.asarray(mask))
    )
    for row in range(B):
        for head in range(N):
            group = head // (N // K)
            scores = q[row, :, head] @ k[row, group].T / np.sqrt(H)
            weights = np.exp(scores) * mask[row]
            expected = weights / weights.sum(-1, keepdims=True) @ v[row, group]
            np.testing.assert_allclose(found[row, :, head], expected, atol=1e-5)


def test_masked_keys_do_not_matter_and_empty_rows_are_finite():
    keys = jax.random.split(jax.random.key(1), 3)
    q = jax.random.normal(keys[0], (1, 2, 2, 4))
    k, v = (jax.random.normal(key, (1, 1, 3, 4)) for key in keys[1:])
    mask = jnp.array([[[True, True, False], [False, False, False]]])
    found = attend(q, k, v, attention_bias(mask))
    other = attend(q, k.at[:, :, 2].set(1e4), v.at[:, :, 2].set(-1e4), attention_bias(mask))
    np.testing.assert_array_equal(found[:, 0], other[:, 0])
    assert np.isfinite(np.asarray(found)).all()
