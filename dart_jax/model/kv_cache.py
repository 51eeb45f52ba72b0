"""Keys and values of past tokens, and attention to several stores of them at once.

A decoding row looks at three stores. For a row of model 1 (of models 0 and 1) with a prompt of 3
tokens of its own after the shared prefix of 4, and two new tokens in the current block of 4:

    prefix   m m m m x x x x      of every model, prefilled once for all rows
    own      x x x . x x x x .    the row's prompt and its new tokens of finished blocks
    recent   x x . .              its new tokens of this block

Token i of a row stands in the same column of the same store whoever shares the batch, so that the
sums of its attention run in the same order and no result depends on the others.

`recent` makes a decode step write one column that is the same for all rows. The rows' own columns
differ, and writing there is a scatter, done once a block; within a block `own` is only read.

A row has as many columns of its own as the longest may need, or only as many pages of columns as
it fills: see `Pages`. Either way its new tokens begin at a whole multiple of the block, so that a
block lies in one page.

Each layer has buffers of its own. Of one array over all layers, a decode step would copy each
layer's slice before using it, which on a CPU takes as long as the attention itself.
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
    """Keys and values of one layer; column s of a row holds one of its past tokens.

    Keys lie transposed, as their product with one query a row wants them.
    """

    key: Float[Array, "B K H S"]
    value: Float[Array, "B K S H"]

    @property
    def columns(self) -> int:
        """S."""
        return self.value.shape[2]


def as_layer(key: Float[Array, "B K S H"], value: Float[Array, "B K S H"]) -> LayerCache:
    """What a layer computed, as it is kept."""
    return LayerCache(key.swapaxes(2, 3), value)


KVCache = tuple[LayerCache, ...]


class Pages(NamedTuple):
    """Whose the pages of a pool are. The pool is a cache whose rows are pages of C columns.

        table   [[2 4 0]      row 0 has page 2, then 4; row 1 has page 1
                 [1 0 0]]     page 0 is nobody's
        owner   [0 1 0 0 0]
        start   [W*C 0 0 W*C C]     pages 0 and 3 lie behind all columns: nobody looks at them

    Attributes:
        table: Pages of each row, in the order of its columns; 0 behind the last.
        owner: Row of each page.
        start: The page's first column in its row.
    """

    table: Int[Array, "B W"]
    owner: Int[Array, " Q"]
    start: Int[Array, " Q"]


class Store(NamedTuple):
    """One of the stores that queries look at.

    Attributes:
        cache: Of the rows, or, when `shared`, a single row (see `side_by_side`), or, with `pages`,
            a pool.
        mask: Which query of which row may look at which column: [B or 1, T or 1, S]; when
            `shared`, S is M * P. With `pages`, which may look at which page's columns: [Q, 1, C].
        shared: Whether every row looks at the same columns: then its products are over all rows.
        pages: Whose the pages are.
    """

    cache: LayerCache
    mask: Bool[Array, "b t S"]
    shared: bool = False
    pages: Pages | None = None


def empty_cache(config: LlamaConfig, rows: int, columns: int, dtype: Any) -> KVCache:
    """A cache of zeros for `rows` rows of `columns` tokens."""
    K, H = config.num_kv_heads, config.head_dim
    return tuple(
        LayerCache(jnp.zeros((rows, K, H, columns), dtype), jnp.zeros((rows, K, columns, H), dtype))
        for _ in range(config.num_layers)
    )


def write_column(cache: LayerCache, column: Array, new: LayerCache) -> LayerCache:
    """Write one token of every row into the same column; in place when the cache may be reused."""
    key, value = (some.astype(old.dtype) for old, some in zip(cache, new, strict=True))
    return LayerCache(
        jax.lax.dynamic_update_slice(cache.key, key, (0, 0, 0, column)),
        jax.lax.dynamic_update_slice(cache.value, value, (0, 0, column, 0)),
    )


def insert_columns(cache: KVCache, places: Int[Array, "P w"], new: KVCache) -> KVCache:
    """Put T columns of P rows at the beginning of their pages, or, of one page each, their rows."""

    def insert(stored: LayerCache, some: LayerCache, page: int) -> LayerCache:
        C, rows = stored.columns, places[:, page]
        key, value = (side.astype(old.dtype) for old, side in zip(stored, some, strict=True))
        key, value = key[..., page * C : (page + 1) * C], value[:, :, page * C : (page + 1) * C]
        return LayerCache(
            stored.key.at[rows, :, :, : key.shape[3]].set(key),
            stored.value.at[rows, :, : value.shape[2]].set(value),
        )

    for page in range(-(-new[0].columns // cache[0].columns)):
        cache = tuple(insert(old, some, page) for old, some in zip(cache, new, strict=True))
    return cache


def append_columns(
    cache: KVCache, lengths: Int[Array, " B"], new: KVCache, pages: Pages | None = None
) -> KVCache:
    """Put R columns of every row at column `lengths`: in pages, a multiple of R."""
    if pages is not None:
        return tuple(_append(*layers, lengths, pages) for layers in zip(cache, new, strict=True))

    @jax.vmap
    def append(stored: LayerCache, some: LayerCache, length: Array) -> LayerCache:
        return LayerCache(
            jax.lax.dynamic_update_slice(stored.key, some.key, (0, 0, length)),
            jax.lax.dynamic_update_slice(stored.value, some.value, (0, length, 0)),
        )

    return tuple(append(old, some, lengths) for old, some in zip(cache, new, strict=True))


def _append(stored: LayerCache, some: LayerCache, lengths: Array, pages: Pages) -> LayerCache:
    """Of a page, C/R blocks of R columns, one is replaced."""
    Q, K, C, H = stored.value.shape
    R = some.columns
    page = jnp.take_along_axis(pages.table, lengths[:, None] // C, axis=1)[:, 0]
    block = lengths % C // R
    key = stored.key.reshape(Q, K, H, C // R, R).at[page, :, :, block].set(some.key)
    value = stored.value.reshape(Q, K, C // R, R, H).at[page, :, block].set(some.value)
    return LayerCache(key.reshape(stored.key.shape), value.reshape(stored.value.shape))


def rows_of(prefix: KVCache, model: Int[Array, " B"]) -> KVCache:
    """Each row's own copy of its model's prefix."""
    return jax.tree.map(lambda stored: stored[model], prefix)


def side_by_side(cache: KVCache) -> KVCache:
    """M rows of P columns as one row of M * P, for a shared store."""

    def joined(layer: LayerCache) -> LayerCache:
        _, K, _, H = layer.value.shape
        return LayerCache(
            layer.key.transpose(1, 2, 0, 3).reshape(1, K, H, -1),
            layer.value.swapaxes(0, 1).reshape(1, K, -1, H),
        )

    return tuple(map(joined, cache))


def join_columns(first: LayerCache, second: LayerCache) -> LayerCache:
    """The columns of both."""
    return LayerCache(
        jnp.concatenate([first.key, second.key], axis=3),
        jnp.concatenate([first.value, second.value], axis=2),
    )


def attend_stores(
    query: Float[Array, "B T N H"], stores: Sequence[Store]
) -> Float[Array, "B T N H"]:
    """Softmax attention to the columns of all stores together; the softmax is in float32.

    As in `attention.attend`, K key-value heads serve G = N/K query heads each, laid out along
    time. Each store is attended to by itself, and its share is the sum of its exponentials (Milakov
    and Gimelshein 2018): joining the scores instead takes more time than all products with the
    prefix. On two CPU cores, thirty layers of 64 rows of 192 float32 columns take 34 ms; 42 when
    keys lie as values do.
    """
    B, T, N, H = query.shape
    K = stores[0].cache.value.shape[1]
    grouped = query.reshape(B, T, K, -1, H).transpose(0, 2, 3, 1, 4)
    parts = [_attend(grouped * H**-0.5, store) for store in stores]
    _, total, out = parts[0]
    if len(parts) > 1:
        highest = jnp.stack([part[0] for part in parts]).max(axis=0)
        shares = [jnp.exp(peak - highest) for peak, _, _ in parts]
        total = sum(share * part[1] for share, part in zip(shares, parts, strict=True))
        out = sum(share * part[2] for share, part in zip(shares, parts, strict=True))
    out = (out / total).astype(query.dtype)
    return out.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def _attend(query: Array, store: Store) -> tuple[Array, Array, Array]:
    """Highest score and sum of exponentials [B,K,G,T,1], and weighted values [B,K,G,T,H]."""
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
    """The largest of the last axis.

    XLA's CPU backend does not vectorise a reduction of the last axis, but does the maximum of
    quarters. With `_total`, 62 instead of 72 ms for a step's attention (96 rows with four pages
    and a prefix of 80 columns, thirty layers, two CPU cores).
    """

    def of_quarters(scores: Array) -> Array:
        parts = 4 if scores.shape[-1] % 4 == 0 else 1
        return reduce(jnp.maximum, jnp.split(scores, parts, -1)).max(axis=-1, keepdims=True)

    return jax.lax.platform_dependent(
        scores, cpu=of_quarters, default=lambda scores: scores.max(axis=-1, keepdims=True)
    )


def _total(weights: Float[Array, "*n S"]) -> Float[Array, "*n 1"]:
    """The sum of the last axis; on a CPU as a product, which is vectorised."""
    return jax.lax.platform_dependent(
        weights,
        cpu=lambda weights: weights @ jnp.ones((weights.shape[-1], 1), weights.dtype),
        default=lambda weights: weights.sum(axis=-1, keepdims=True),
    )


def _attend_pages(query: Array, store: Store, pages: Pages) -> tuple[Array, Array, Array]:
    """`_attend`, a page at a time.

    Only pages in use are read, and small products are faster: thirty layers of 64 rows take 38 ms
    with four pages of 64 float32 columns a row, 55 with six, and 93 as one product with a row's
    384 columns (two CPU cores). Pages of 32 or of 128 columns take 55 where those of 64 take 38.

    A row's pages are summed in its own order and zeros for the missing ones are added behind them,
    so that the sum depends neither on where they lie nor on W.
    """
    found = _attend(query[pages.owner], store._replace(pages=None))
    peak, total, out = (part[pages.table] for part in found)
    highest = peak.max(axis=1, keepdims=True)
    share = jnp.exp(peak - highest)
    return highest[:, 0], (share * total).sum(axis=1), (share * out).sum(axis=1)
