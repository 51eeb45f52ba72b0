"""Attention by slots is dense attention under the segment mask, value and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model import packed_attention as module
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.packed_attention import Layout, packed_attention

N, K, H, T = 4, 2, 8, 48


def _rows(prefix, rows):
    """positions, segment_ids [B, T] of rows given as lists of segment lengths."""
    positions, segments = np.zeros((2, len(rows), T), np.int32)
    for row, lengths in enumerate(rows):
        ids = [-1] * prefix + [s for s, n in enumerate(lengths, 1) for _ in range(n)]
        at = [*range(prefix), *(prefix + i for n in lengths for i in range(n))]
        segments[row, : len(ids)], positions[row, : len(at)] = ids, at
    return jnp.asarray(positions), jnp.asarray(segments)


# Blocks of queries: one, four of slots of 12 tokens, three that do not come out even.
@pytest.mark.parametrize("least", [64, 3, 4])
@pytest.mark.parametrize("prefix", [0, 7])
def test_slots_are_the_dense_mask(prefix, least, monkeypatch):
    """Rows full and not, segments of the full slot, of one token, and none at all."""
    monkeypatch.setattr(module, "_LEAST_BLOCK", least)
    positions, segments = _rows(prefix, [[9, 1, 12, 5], [3, 12], [12, 12, 12], []])
    layout = Layout(prefix, slot=12, segments=4, supervised=T)
    keys = jax.random.split(jax.random.key(0), 4)
    q = jax.random.normal(keys[0], (4, T, N, H))
    k, v = (jax.random.normal(key, (4, K, T, H)) for key in keys[1:3])
    read = jax.random.normal(keys[3], (4, T, N, H)) * (segments != 0)[:, :, None, None]

    def value(attention):
        return jax.value_and_grad(lambda *qkv: jnp.sum(read * attention(*qkv)), argnums=(0, 1, 2))

    by_slots = packed_attention(positions, segments, layout)
    dense = dense_attention(segment_mask(positions, segments))
    # Four scores arrays of T x T would be dense attention under another name.
    assert f"{T},{T}]" not in str(jax.make_jaxpr(by_slots)(q, k, v))
    found, expected = value(by_slots)(q, k, v), value(dense)(q, k, v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


def test_dense_where_slots_would_be_more_work(monkeypatch):
    """One long example beside many short ones: slots as long as the row, for each of them."""
    positions, segments = _rows(3, [[40, 1, 1, 1, 1, 1], [2, 30]])
    layout = Layout(3, slot=40, segments=6, supervised=T)
    attention = packed_attention(positions, segments, layout)
    dense = dense_attention(segment_mask(positions, segments))
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (2, T, N, H))
    k, v = (jax.random.normal(key, (2, K, T, H)) for key in keys[1:])
    whole = f"f32[2,1,{K},{N // K * T},{T}]"
    assert whole in str(jax.make_jaxpr(attention)(q, k, v))

    # In blocks of queries, no scores of T x T; the 7 of the last block are fewer than the others.
    monkeypatch.setattr(module, "_LEAST_BLOCK", 7)
    monkeypatch.setattr(module, "_MOST_BLOCKS", 5)
    assert whole not in str(jax.make_jaxpr(jax.grad(lambda q: attention(q, k, v).sum()))(q))
    real = (segments != 0)[:, :, None, None]
    np.testing.assert_allclose(real * attention(q, k, v), real * dense(q, k, v), atol=2e-5)
