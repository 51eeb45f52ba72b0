"""Which page of the pool belongs to which row: kept by the host, told to the devices every block.

A row gets a page when its next block needs one, and gives all of them back when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Columns of a page; of 32, 64 and 128 the fastest, see `kv_cache._attend_pages`.
PAGE = 64
# A pool begins with so many quarters of what its rows could ever need, and grows by one: every
# size is compiled. Few rows are not worth that.
_FIRST_QUARTERS = 2
_FEW_ROWS = 32


class PageTable:
    """The pages of some rows, at most `each` a row.

    Attributes:
        size: Pages of the pool. Page 0 belongs to nobody.
    """

    def __init__(self, rows: int, each: int):
        quarters = _FIRST_QUARTERS if rows >= _FEW_ROWS else 4
        self._begin(rows, each, _quarters(rows * each, quarters))

    def _begin(self, rows: int, each: int, size: int) -> None:
        self.size = size
        self._table = np.zeros((rows, each), np.int32)
        self._free = list(range(size - 1, 0, -1))

    def lacking(self, columns: Mapping[int, int]) -> int:
        """How many more pages the pool must have for rows of so many columns."""
        held = (self._table > 0).sum(axis=1)
        wanted = sum(max(0, -(-need // PAGE) - int(held[row])) for row, need in columns.items())
        return max(0, wanted - len(self._free))

    def give(self, columns: Mapping[int, int]) -> None:
        """Pages for rows of so many columns; none may be lacking."""
        for row, need in columns.items():
            for place in range(-(-need // PAGE)):
                if not self._table[row, place]:
                    self._table[row, place] = self._free.pop()

    def take_back(self, row: int) -> None:
        """The pages of a row that has ended."""
        self._free += self._table[row][self._table[row] > 0].tolist()
        self._table[row] = 0

    def grow(self, lacking: int) -> np.ndarray:
        """By a quarter, or more when so many pages are lacking; what `_move` returns."""
        rows, each = self._table.shape
        sizes = [_quarters(rows * each, quarters) for quarters in range(1, 5)]
        return self._move(range(rows), next(size for size in sizes if size >= self.size + lacking))

    def shrink(self, rows: Sequence[int]) -> np.ndarray:
        """Go on with these rows, and all pages that they could need; what `_move` returns."""
        return self._move(rows, _quarters(len(rows) * self._table.shape[1], 4))

    def _move(self, rows: Sequence[int], size: int) -> np.ndarray:
        """Of every page from now on [size], which it was."""
        old = self._table[np.asarray(rows)]
        held = old > 0
        count = int(held.sum())
        self._begin(*old.shape, size)
        self._table[held] = np.arange(1, 1 + count)
        self._free = self._free[: size - 1 - count]
        was = np.zeros(size, np.int32)
        was[1 : 1 + count] = old[held]
        return was

    def of_rows(self, rows: Sequence[int], columns: int) -> np.ndarray:
        """Pages of so many columns of these rows, in their order; 0 where a row has none."""
        return self._table[np.asarray(rows), : -(-columns // PAGE)]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The fields of `kv_cache.Pages`."""
        rows, places = np.nonzero(self._table)
        numbers = self._table[rows, places]
        owner = np.zeros(self.size, np.int32)
        start = np.full(self.size, self._table.shape[1] * PAGE, np.int32)
        owner[numbers], start[numbers] = rows, places * PAGE
        return self._table.copy(), owner, start


def _quarters(pages: int, quarters: int) -> int:
    return 1 + -(-pages * quarters // 4)
