"""The stores of past tokens: writing into them, and attending to several as to one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.attention import dense_attention
from dart_jax.model.kv_cache import (
    LayerCache,
    Pages,
    Store,
    append_positions,
    as_layer,
    attend_stores,
    empty_cache,
    insert_positions,
    join_positions,
    rows_of,
    side_by_side,
    write_position,
)


def drawn(seed, *shape, dtype="float32"):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def layer(seed, rows, positions, dtype="float32"):
    return as_layer(
        drawn(seed, rows, 2, positions, 4, dtype=dtype),
        drawn(seed + 1, rows, 2, positions, 4, dtype=dtype),
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
    after = write_position(before, jnp.int32(3), new)
    for old, now, some in zip(*map(plain, (before, after, new)), strict=True):
        np.testing.assert_array_equal(now[:, :, 3:4], some)
        kept = [0, 1, 2, 4]
        np.testing.assert_array_equal(now[:, :, kept], old[:, :, kept])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_and_columns_land_where_they_should(dtype):
    """Two of four rows replaced at the beginning; then two positions behind each row's tokens."""
    cache, new, more = (layer(seed, 4, n, dtype) for seed, n in ((0, 6), (2, 3), (4, 2)))
    new = jax.tree.map(lambda side: side[:2], new)
    rows, lengths = jnp.asarray([2, 0]), jnp.asarray([3, 4, 0, 1])

    @jax.jit
    def write(cache):
        return append_positions(insert_positions(cache, rows[:, None], (new,)), lengths, (more,))

    [found] = write((cache,))
    for side, old, some, last in zip(*map(plain, (found, cache, new, more)), strict=True):
        expected = np.array(old)
        expected[[2, 0], :, :3] = some
        for row, length in enumerate([3, 4, 0, 1]):
            expected[row, :, length : length + 2] = last[row]
        np.testing.assert_array_equal(side, expected)


# Rows of at most 3 pages of 4 positions: row 0 has two, row 1 three, row 2 none.
TABLE = np.asarray([[5, 2, 0], [1, 3, 6], [0, 0, 0]])
OWNER, START = np.asarray([0, 1, 0, 1, 0, 0, 1]), np.asarray([12, 0, 4, 4, 12, 0, 8])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pages_are_the_columns_of_their_rows(dtype):
    """5 positions of two rows, then two of each row behind them: as in rows of 12 positions."""
    pages = Pages(*map(jnp.asarray, (TABLE, OWNER, START)))
    pool, rows = layer(0, 7, 4, dtype), layer(2, 3, 12, dtype)
    new, more = layer(4, 2, 5, dtype), layer(6, 3, 2, dtype)
    lengths = jnp.asarray([6, 10, 0])

    @jax.jit
    def in_pages(pool):
        inserted = insert_positions(pool, pages.table[jnp.asarray([1, 0]), :2], (new,))
        return append_positions(inserted, lengths, (more,), pages)

    inserted = insert_positions((rows,), jnp.asarray([[1], [0]]), (new,))
    [expected], [found] = append_positions(inserted, lengths, (more,)), in_pages((pool,))
    for side, whole, old in zip(*map(plain, (found, expected, pool)), strict=True):
        np.testing.assert_array_equal(side[4], old[4], "a page of nobody")
        for row, positions in ((0, [*range(5), 6, 7]), (1, [*range(5), 10, 11])):
            joined = np.concatenate(side[TABLE[row]], axis=1)
            np.testing.assert_array_equal(joined[:, positions], whole[row][:, positions])


def test_attention_to_pages_is_attention_to_rows_and_does_not_know_where_they_lie():
    """A row sees its own positions but for a gap; any pages give the same result, to the bit."""
    query, recent, rows = drawn(9, 3, 1, 6, 4), layer(2, 3, 4), layer(4, 3, 12)
    seen = np.asarray([[1] * 3 + [0] + [1] * 3 + [0] * 5, [1] * 11 + [0], [0] * 12], bool)
    so_far = Store(recent, jnp.asarray([[[True, True, False, False]]]))
    expected = attend_stores(query, [Store(rows, jnp.asarray(seen)[:, None]), so_far])

    def in_pages(table, each):
        count = 1 + table.max()
        owner, start = np.zeros(count, int), np.full(count, 12)
        mask = np.zeros((count, 1, 4), bool)
        key, value = map(np.array, layer(6, count, 4))
        for row, place in np.argwhere(table):
            page, positions = table[row, place], slice(4 * place, 4 * place + 4)
            owner[page], start[page], mask[page, 0] = row, 4 * place, seen[row, positions]
            key[page], value[page] = rows.key[row][..., positions], rows.value[row][:, positions]
        pages = Pages(*map(jnp.asarray, (table[:, :each], owner, start)))
        pool = LayerCache(jnp.asarray(key), jnp.asarray(value))
        store = Store(pool, jnp.asarray(mask), pages=pages)
        return np.asarray(jax.jit(lambda query: attend_stores(query, [store, so_far]))(query))

    found = in_pages(TABLE, 3)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    elsewhere = np.asarray([[7, 8, 0, 0, 0], [4, 1, 9, 0, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(in_pages(elsewhere, 5), found)


@pytest.mark.parametrize("T", [1, 3])
def test_attention_to_stores_is_attention_to_their_columns_side_by_side(T):
    """A prefix of two models, own positions of unequal number, and recent ones; also a bare one."""
    B, models = 3, jnp.asarray([1, 0, 1])
    prefix, own, recent = layer(0, 2, 5), layer(2, B, 6), layer(4, B, 4)
    query = drawn(9, B, T, 6, 4)
    of_model = (jnp.arange(2).repeat(5)[None] == models[:, None])[:, None]
    filled = (jnp.arange(6)[None] < jnp.asarray([2, 6, 0])[:, None])[:, None]
    so_far = (jnp.arange(4)[None] <= 1 + jnp.arange(T)[:, None])[None]
    [shared] = side_by_side((prefix,))
    stores = [Store(shared, of_model, shared=True), Store(own, filled), Store(recent, so_far)]

    joined = join_positions(rows_of((prefix,), models)[0], join_positions(own, recent))
    mask = [jnp.ones((B, 1, 5), bool), filled, so_far]
    mask = jnp.concatenate([jnp.broadcast_to(m, (B, T, m.shape[-1])) for m in mask], axis=-1)
    expected = dense_attention(mask)(query, joined.key.swapaxes(2, 3), joined.value)
    np.testing.assert_allclose(attend_stores(query, stores), expected, atol=2e-6)
    alone = attend_stores(query, [Store(joined, mask)])
    np.testing.assert_allclose(alone, expected, atol=2e-6)
