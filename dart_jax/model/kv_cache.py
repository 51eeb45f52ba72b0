"""A KV cache in several stores, and attention to all of them at once.

A decoding row attends to three stores. For a row of model 1 (of models 0 and 1) with a prompt of 3
tokens of its own after the shared prefix of 4, and two new tokens in the current block of 4:

    prefix      m m m m x x x x      of every model, prefilled once for all rows
    row cache   x x x . x x x x .    the row's prompt and its new tokens of finished blocks
    recent      x x . .              its new tokens of this block

Positions count from 0 within a store. Token i of a row stands at the same position of the same
store whoever shares the batch, so that the sums of its attention run in the same order and no
result depends on the other rows.

`recent` lets a decode step write to one position that is the same for all rows. In the row cache
the positions to write to differ by row, which takes a scatter: it runs once a block, and within a
block the row cache is only read.

A row of the row cache has as many positions as the longest row may need, or only as many pages of
positions as it fills: see `Pages`. Either way its new tokens begin at a multiple of the block
length, so that a block lies in one page.

Each layer has its own buffers. If one array held all layers, a decode step would copy each layer's
slice before using it, which on a CPU takes as long as the attention itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import MASKED

# (query [B,T,N,H], key [B,K,T,H], value [B,K,T,H], a layer's cache) -> ([B,T,N,H], its new cache)
CachedAttention = Callable[[Array, Array, Array, Any], tuple[Array, Any]]


class LayerCache(NamedTuple):
    """Keys and values of one layer; position s of a row holds one of its past tokens.

    Keys are stored transposed: their product with one query a row is faster that way.
    """

    key: Float[Array, "B K H S"]
    value: Float[Array, "B K S H"]

    @property
    def positions(self) -> int:
        """S, the number of positions that a row has."""
        return self.value.shape[2]


def as_layer(key: Float[Array, "B K S H"], value: Float[Array, "B K S H"]) -> LayerCache:
    """Make a layer's cache of the keys and values that it computed."""
    return LayerCache(key.swapaxes(2, 3), value)


KVCache = tuple[LayerCache, ...]


class Pages(NamedTuple):
    """Page table of a pool: a cache whose rows are pages of C positions each.

        table   [[2 4 0]      row 0 has page 2, then 4; row 1 has page 1
                 [1 0 0]]     page 0 belongs to no row
        owner   [0 1 0 0 0]
        start   [W*C 0 0 W*C C]     pages 0 and 3 start behind all positions: no query sees them

    Attributes:
        table: Pages of each row, in the order of its positions; 0 after the last.
        owner: Row that each page belongs to.
        start: Position in that row at which the page starts.
    """

    table: Int[Array, "B W"]
    owner: Int[Array, " Q"]
    start: Int[Array, " Q"]


class Store(NamedTuple):
    """One of the stores that queries attend to.

    Attributes:
        cache: One row for each batch row; a single row when `shared` (see `side_by_side`); a pool
            when there are `pages`.
        mask: True where a query may see a position: [B or 1, T or 1, S]; when `shared`, S is
            M * P. With `pages`, the positions of each page: [Q, 1, C].
        shared: Every row attends to the same positions, so that one product serves all rows.
        pages: Page table of the pool.
    """

    cache: LayerCache
    mask: Bool[Array, "b t S"]
    shared: bool = False
    pages: Pages | None = None


def empty_cache(config: LlamaConfig, rows: int, positions: int, dtype: Any) -> KVCache:
    """A cache of zeros for `rows` rows of `positions` tokens."""
    K, H = config.num_kv_heads, config.head_dim
    return tuple(
        LayerCache(
            jnp.zeros((rows, K, H, positions), dtype), jnp.zeros((rows, K, positions, H), dtype)
        )
        for _ in range(config.num_layers)
    )


def write_position(cache: LayerCache, position: Array, new: LayerCache) -> LayerCache:
    """Write one token of every row to the same position; in place when the cache may be reused."""
    key = new.key.astype(cache.key.dtype)
    value = new.value.astype(cache.value.dtype)
    return LayerCache(
        jax.lax.dynamic_update_slice(cache.key, key, (0, 0, 0, position)),
        jax.lax.dynamic_update_slice(cache.value, value, (0, 0, position, 0)),
    )


def insert_positions(cache: KVCache, places: Int[Array, "P w"], new: KVCache) -> KVCache:
    """Write T positions of P prefilled rows to the beginning of their rows or pages.

    Args:
        places: For each prefilled row, the w pages that it goes to; where the cache has no pages,
            its one row.
    """

    def insert(stored: LayerCache, prefilled: LayerCache, page: int) -> LayerCache:
        C, rows = stored.positions, places[:, page]
        in_page = slice(page * C, (page + 1) * C)
        key = prefilled.key.astype(stored.key.dtype)
        value = prefilled.value.astype(stored.value.dtype)
        key, value = key[..., in_page], value[:, :, in_page]
        return LayerCache(
            stored.key.at[rows, :, :, : key.shape[3]].set(key),
            stored.value.at[rows, :, : value.shape[2]].set(value),
        )

    for page in range(-(-new[0].positions // cache[0].positions)):
        layers = zip(cache, new, strict=True)
        cache = tuple(insert(stored, prefilled, page) for stored, prefilled in layers)
    return cache


def append_positions(
    cache: KVCache, lengths: Int[Array, " B"], new: KVCache, pages: Pages | None = None
) -> KVCache:
    """Write R positions of every row behind its first `lengths`; with pages, a multiple of R."""
    layers = zip(cache, new, strict=True)
    if pages is not None:
        return tuple(_append_to_page(stored, added, lengths, pages) for stored, added in layers)

    @jax.vmap
    def append(stored: LayerCache, added: LayerCache, length: Array) -> LayerCache:
        return LayerCache(
            jax.lax.dynamic_update_slice(stored.key, added.key, (0, 0, length)),
            jax.lax.dynamic_update_slice(stored.value, added.value, (0, length, 0)),
        )

    return tuple(append(stored, added, lengths) for stored, added in layers)


def _append_to_page(
    stored: LayerCache, added: LayerCache, lengths: Array, pages: Pages
) -> LayerCache:
    """Replace one of the C/R blocks of R positions that make up a page."""
    Q, K, C, H = stored.value.shape
    R = added.positions
    page = jnp.take_along_axis(pages.table, lengths[:, None] // C, axis=1)[:, 0]
    block = lengths % C // R

    key = stored.key.reshape(Q, K, H, C // R, R).at[page, :, :, block].set(added.key)
    value = stored.value.reshape(Q, K, C // R, R, H).at[page, :, block].set(added.value)
    return LayerCache(key.reshape(stored.key.shape), value.reshape(stored.value.shape))


def rows_of(prefix: KVCache, model: Int[Array, " B"]) -> KVCache:
    """Copy each batch row's prefix from its model's row."""
    return jax.tree.map(lambda stored: stored[model], prefix)


def side_by_side(cache: KVCache) -> KVCache:
    """Join M rows of P positions into one row of M * P, for a shared store."""

    def in_one_row(layer: LayerCache) -> LayerCache:
        _, K, _, H = layer.value.shape
        return LayerCache(
            layer.key.transpose(1, 2, 0, 3).reshape(1, K, H, -1),
            layer.value.swapaxes(0, 1).reshape(1, K, -1, H),
        )

    return tuple(in_one_row(layer) for layer in cache)


def join_positions(first: LayerCache, second: LayerCache) -> LayerCache:
    """Concatenate the positions of two caches, row by row."""
    return LayerCache(
        jnp.concatenate([first.key, second.key], axis=3),
        jnp.concatenate([first.value, second.value], axis=2),
    )


def attend_stores(
    query: Float[Array, "B T N H"], stores: Sequence[Store]
) -> Float[Array, "B T N H"]:
    """Softmax attention to the positions of all stores together; the softmax is in float32.

    As in `attention.attend`, K key-value heads serve G = N/K query heads each, laid out along
    time. Each store is attended to by itself, and the results are weighted by the sums of their
    exponentials (Milakov and Gimelshein 2018): joining the scores instead takes more time than all
    products with the prefix. On two CPU cores, thirty layers of 64 rows of 192 float32 positions
    take 34 ms; 42 when keys are not stored transposed.
    """
    B, T, N, H = query.shape
    K = stores[0].cache.value.shape[1]
    grouped = query.reshape(B, T, K, -1, H).transpose(0, 2, 3, 1, 4)
    parts = [_attend(grouped * H**-0.5, store) for store in stores]

    _, total, out = parts[0]
    if len(parts) > 1:
        # Each store's exponentials are relative to its own highest score: bring them to a common
        # one before they are added.
        highest = jnp.stack([peak for peak, _, _ in parts]).max(axis=0)
        shares = [jnp.exp(peak - highest) for peak, _, _ in parts]
        total = sum(share * part[1] for share, part in zip(shares, parts, strict=True))
        out = sum(share * part[2] for share, part in zip(shares, parts, strict=True))

    out = (out / total).astype(query.dtype)
    return out.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def _attend(query: Array, store: Store) -> tuple[Array, Array, Array]:
    """Attend to one store, leaving the softmax unnormalised.

    Returns:
        Highest score and sum of exponentials, both [B,K,G,T,1], and the values weighted by the
        exponentials [B,K,G,T,H].
    """
    if store.pages is not None:
        return _attend_pages(query, store, store.pages)
    B, K, G, T, H = query.shape
    key, value = store.cache
    query = query.astype(key.dtype)
    mask = store.mask[:, None, None]

    if store.shared:
        # All rows as one matrix of queries for each key-value head.
        query = query.swapaxes(0, 1).reshape(1, K, -1, H)
    else:
        query = query.reshape(B, K, G * T, H)

    scores = jnp.einsum("bkth,bkhs->bkts", query, key, preferred_element_type=jnp.float32)
    if store.shared:
        mask = mask.swapaxes(0, 1)
        scores = scores.reshape(K, B, G, T, -1)
    else:
        scores = scores.reshape(B, K, G, T, -1)
    # Finite: a row that sees nothing here has exponentials of 1, not nan, and in `attend_stores`
    # the share 0.
    scores = jnp.where(mask, scores, MASKED)
    peak = _highest(scores)
    weights = jnp.exp(scores - peak)
    total = _total(weights)

    rows = 1 if store.shared else B
    out = jnp.einsum(
        "bkts,bksh->bkth",
        weights.astype(value.dtype).reshape(rows, K, -1, weights.shape[-1]),
        value,
        preferred_element_type=jnp.float32,
    )

    if store.shared:
        out = out.reshape(K, B, G, T, H).swapaxes(0, 1)
        return peak.swapaxes(0, 1), total.swapaxes(0, 1), out
    return peak, total, out.reshape(B, K, G, T, H)


def _highest(scores: Float[Array, "*n S"]) -> Float[Array, "*n 1"]:
    """Maximum over the last axis.

    XLA's CPU backend does not vectorise a reduction of the last axis, but does the maximum of
    quarters. With `_total`, 62 instead of 72 ms for a step's attention (96 rows with four pages
    and a prefix of 80 positions, thirty layers, two CPU cores).
    """

    def of_quarters(scores: Array) -> Array:
        parts = 4 if scores.shape[-1] % 4 == 0 else 1
        return reduce(jnp.maximum, jnp.split(scores, parts, -1)).max(axis=-1, keepdims=True)

    return jax.lax.platform_dependent(
        scores, cpu=of_quarters, default=lambda scores: scores.max(axis=-1, keepdims=True)
    )


def _total(weights: Float[Array, "*n S"]) -> Float[Array, "*n 1"]:
    """Sum over the last axis; on a CPU as a matrix product, which XLA vectorises."""
    return jax.lax.platform_dependent(
        weights,
        cpu=lambda weights: weights @ jnp.ones((weights.shape[-1], 1), weights.dtype),
        default=lambda weights: weights.sum(axis=-1, keepdims=True),
    )


def _attend_pages(query: Array, store: Store, pages: Pages) -> tuple[Array, Array, Array]:
    """Attend to one store as `_attend` does, a page at a time.

    Only pages in use are read, and small products are faster: thirty layers of 64 rows take 38 ms
    with four pages of 64 float32 positions a row, 55 with six, and 93 as one product with a row's
    384 positions (two CPU cores). Pages of 32 or 128 positions take 55 where those of 64 take 38.

    A row's pages are summed in the row's order, with zeros for the missing ones at the end, so that
    the sum depends neither on where the pages lie nor on W.
    """
    peak, total, out = _attend(query[pages.owner], store._replace(pages=None))
    peak, total, out = peak[pages.table], total[pages.table], out[pages.table]

    highest = peak.max(axis=1, keepdims=True)
    share = jnp.exp(peak - highest)
    return highest[:, 0], (share * total).sum(axis=1), (share * out).sum(axis=1)
