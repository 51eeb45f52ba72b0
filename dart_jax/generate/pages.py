"""The host's page table: which page of the KV cache belongs to which row.

The devices get a copy of it with every block (`kv_cache.Pages`).

A row gets a page when its next block needs one, and gives all of them back when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Columns of a page; of 32, 64 and 128 the fastest, see `kv_cache._attend_pages`.
PAGE = 64
# A pool begins with two quarters of the pages that its rows could ever need and grows by a quarter
# at a time. Each size is compiled, which takes longer than a small pool saves where there is little
# to decode: it begins with three quarters for few new tokens, and has all pages for few rows.
_FIRST_QUARTERS = 2
_FEW_TOKENS = 20_480
_FEW_ROWS = 32


class PageTable:
    """The pages of a batch's rows, at most `each` per row.

    Args:
        new_tokens: The most that are written in all, by the rows that come one after the other.

    Attributes:
        size: Pages of the pool. Page 0 belongs to no row.
    """

    def __init__(self, rows: int, each: int, new_tokens: int):
        quarters = _FIRST_QUARTERS
        if rows < _FEW_ROWS:
            quarters = 4
        elif new_tokens < _FEW_TOKENS:
            quarters = 3
        self._begin(rows, each, _quarters(rows * each, quarters))

    def _begin(self, rows: int, each: int, size: int) -> None:
        self.size = size
        self._table = np.zeros((rows, each), np.int32)
        # Downwards: `_move` cuts the pages that are in use, 1 to `count`, off the end.
        self._free = list(range(size - 1, 0, -1))

    def lacking(self, positions: Mapping[int, int]) -> int:
        """Count the pages that the pool is short of, given the positions that each row needs."""
        held = (self._table > 0).sum(axis=1)
        wanted = sum(max(0, -(-need // PAGE) - int(held[row])) for row, need in positions.items())
        return max(0, wanted - len(self._free))

    def give(self, positions: Mapping[int, int]) -> None:
        """Assign pages for the positions that each row needs; none may be lacking."""
        for row, need in positions.items():
            for index in range(-(-need // PAGE)):
                if not self._table[row, index]:
                    self._table[row, index] = self._free.pop()

    def take_back(self, row: int) -> None:
        """Free the pages of a row that has ended."""
        self._free += self._table[row][self._table[row] > 0].tolist()
        self._table[row] = 0

    def grow(self, lacking: int) -> np.ndarray:
        """Grow the pool by a quarter, or by more if `lacking` asks for it; returns as `_move`."""
        rows, each = self._table.shape
        sizes = [_quarters(rows * each, quarters) for quarters in range(1, 5)]
        size = next(size for size in sizes if size >= self.size + lacking)
        return self._move(range(rows), size)

    def shrink(self, rows: Sequence[int]) -> np.ndarray:
        """Keep these rows only, with all pages that they could need; returns as `_move`."""
        return self._move(rows, _quarters(len(rows) * self._table.shape[1], 4))

    def _move(self, rows: Sequence[int], size: int) -> np.ndarray:
        """Renumber the pages of these rows from 1 in a pool of another size.

        Returns:
            For each page of the resized pool, the index of the page that it was [size]; 0 for one
            that is free.
        """
        old_table = self._table[np.asarray(rows)]
        held = old_table > 0
        count = int(held.sum())

        self._begin(*old_table.shape, size)
        self._table[held] = np.arange(1, 1 + count)
        self._free = self._free[: size - 1 - count]

        old_index = np.zeros(size, np.int32)
        old_index[1 : 1 + count] = old_table[held]
        return old_index

    def of_rows(self, rows: Sequence[int], positions: int) -> np.ndarray:
        """Pages that hold the first `positions` of these rows; 0 where a row has none."""
        return self._table[np.asarray(rows), : -(-positions // PAGE)]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Table, owner and start: the fields of `kv_cache.Pages`."""
        rows, indices = np.nonzero(self._table)
        pages = self._table[rows, indices]
        owner = np.zeros(self.size, np.int32)
        # A page of no row starts behind all positions, where no query sees it.
        start = np.full(self.size, self._table.shape[1] * PAGE, np.int32)
        owner[pages], start[pages] = rows, indices * PAGE
        return self._table.copy(), owner, start


def _quarters(pages: int, quarters: int) -> int:
    """Size of a pool with so many quarters of `pages`, page 0 included."""
    return 1 + -(-pages * quarters // 4)
