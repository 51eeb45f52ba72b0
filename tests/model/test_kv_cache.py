"""The stores of past tokens: writing into them, and attending to several as to one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.attention import dense_attention
from dart_jax.model.kv_cache import (
    Store,
    append_columns,
    as_layer,
    attend_stores,
    empty_cache,
    insert_rows,
    join_columns,
    rows_of,
    write_column,
)


def drawn(seed, *shape, dtype="float32"):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def layer(seed, rows, columns, dtype="float32"):
    return as_layer(
        drawn(seed, rows, 2, columns, 4, dtype=dtype),
        drawn(seed + 1, rows, 2, columns, 4, dtype=dtype),
    )


def plain(cache):
    """Keys and values alike, [B, K, S, H]."""
    return np.asarray(cache.key.swapaxes(2, 3)), np.asarray(cache.value)


def test_shape_and_type(config):
    cache = empty_cache(config, 2, 7, jnp.dtype("bfloat16"))
    assert len(cache) == config.num_layers
    for side in (side for layer in cache for side in plain(layer)):
        assert side.shape == (2, config.num_kv_heads, 7, config.head_dim)
        assert side.dtype == "bfloat16" and not side.any()


def test_write_column_leaves_the_others_alone():
    before, new = layer(0, 3, 5), layer(2, 3, 1)
    after = write_column(before, jnp.int32(3), new)
    for old, now, some in zip(*map(plain, (before, after, new)), strict=True):
        np.testing.assert_array_equal(now[:, :, 3:4], some)
        kept = [0, 1, 2, 4]
        np.testing.assert_array_equal(now[:, :, kept], old[:, :, kept])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_and_columns_land_where_they_should(dtype):
    """Two of four rows replaced at the beginning; then two columns behind each row's tokens."""
    cache, new, more = (layer(seed, 4, n, dtype) for seed, n in ((0, 6), (2, 3), (4, 2)))
    new = jax.tree.map(lambda side: side[:2], new)
    rows, lengths = jnp.asarray([2, 0]), jnp.asarray([3, 4, 0, 1])

    @jax.jit
    def write(cache):
        return append_columns(insert_rows(cache, rows, (new,)), lengths, (more,))

    [found] = write((cache,))
    for side, old, some, last in zip(*map(plain, (found, cache, new, more)), strict=True):
        expected = np.array(old)
        expected[[2, 0], :, :3] = some
        for row, length in enumerate([3, 4, 0, 1]):
            expected[row, :, length : length + 2] = last[row]
        np.testing.assert_array_equal(side, expected)


@pytest.mark.parametrize("T", [1, 3])
def test_attention_to_stores_is_attention_to_their_columns_side_by_side(T):
    """A prefix of two models, own columns of unequal number, and recent ones; also a bare one."""
    B, models = 3, jnp.asarray([1, 0, 1])
    prefix, own, recent = layer(0, 2, 5), layer(2, B, 6), layer(4, B, 4)
    query = drawn(9, B, T, 6, 4)
    of_model = (jnp.arange(2).repeat(5)[None] == models[:, None])[:, None]
    filled = (jnp.arange(6)[None] < jnp.asarray([2, 6, 0])[:, None])[:, None]
    so_far = (jnp.arange(4)[None] <= 1 + jnp.arange(T)[:, None])[None]
    stores = [Store(prefix, of_model, shared=True), Store(own, filled), Store(recent, so_far)]

    joined = join_columns(rows_of((prefix,), models)[0], join_columns(own, recent))
    mask = [jnp.ones((B, 1, 5), bool), filled, so_far]
    mask = jnp.concatenate([jnp.broadcast_to(m, (B, T, m.shape[-1])) for m in mask], axis=-1)
    expected = dense_attention(mask)(query, joined.key.swapaxes(2, 3), joined.value)
    np.testing.assert_allclose(attend_stores(query, stores), expected, atol=2e-6)
    alone = attend_stores(query, [Store(joined, mask)])
    np.testing.assert_allclose(alone, expected, atol=2e-6)
