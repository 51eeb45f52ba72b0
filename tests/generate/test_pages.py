"""Pages: every row has its own, in order, and none is lost."""

import numpy as np
import pytest

from dart_jax.generate.pages import PAGE, PageTable

LONG = 10**6  # new tokens


def holders(pages: PageTable) -> dict[int, list[int]]:
    """The pages of each row that has some, as the devices are told."""
    table, owner, start = pages.arrays()
    held = {row: [page for page in places if page] for row, places in enumerate(table.tolist())}
    for row, numbers in held.items():
        assert [int(owner[page]) for page in numbers] == [row] * len(numbers)
        assert [int(start[page]) for page in numbers] == [PAGE * i for i in range(len(numbers))]
    taken = [page for numbers in held.values() for page in numbers]
    assert len(set(taken)) == len(taken), "a page has one owner"
    others = np.setdiff1d(np.arange(pages.size), taken)
    assert 0 in others and (start[others] == PAGE * table.shape[1]).all(), "nobody looks there"
    return {row: numbers for row, numbers in held.items() if numbers}


def test_rows_get_pages_as_they_need_them_and_give_them_back():
    pages = PageTable(4, 3, LONG)
    pages.give({0: 1, 2: PAGE + 1})
    assert {row: len(held) for row, held in holders(pages).items()} == {0: 1, 2: 2}
    before = holders(pages)
    pages.give({0: PAGE, 2: 3 * PAGE})
    assert holders(pages)[0] == before[0] and holders(pages)[2][:2] == before[2]
    assert pages.of_rows([2, 0], PAGE + 1).tolist() == [before[2], [before[0][0], 0]]
    pages.take_back(2)
    assert holders(pages) == {0: before[0]}
    assert pages.lacking({row: 3 * PAGE for row in range(4)}) == 0, (
        "few rows have all from the first"
    )


def test_the_pool_grows_by_quarters_and_keeps_what_is_in_it():
    pages = PageTable(64, 4, LONG)
    assert pages.size == 1 + 128
    pages.give({row: 2 * PAGE for row in range(64)})
    before = holders(pages)
    assert pages.lacking({5: 3 * PAGE, 6: 2 * PAGE}) == 1
    was = pages.grow(1)
    assert pages.size == len(was) == 1 + 192
    assert {row: was[held].tolist() for row, held in holders(pages).items()} == before
    everything = {row: 4 * PAGE for row in range(64)}
    pages.grow(pages.lacking(everything))
    pages.give(everything)
    assert pages.size == 1 + 256 and pages.lacking(everything) == 0


def test_a_short_call_begins_with_the_size_that_a_longer_one_grows_to():
    long, short = PageTable(64, 4, LONG), PageTable(64, 4, 1000)
    long.grow(1)
    assert short.size == long.size == 1 + 192


def test_fewer_rows_go_on_with_their_pages_and_room_for_all():
    pages = PageTable(64, 4, LONG)
    pages.give({row: (1 + row % 2) * PAGE for row in range(64)})
    before, keep = holders(pages), [63, 0, 7, 8]
    was = pages.shrink(keep)
    assert pages.size == len(was) == 1 + 16
    after = holders(pages)
    assert [was[after[new]].tolist() for new in range(4)] == [before[old] for old in keep]
    pages.give({row: 4 * PAGE for row in range(4)})
    with pytest.raises(IndexError):
        pages.give({0: 5 * PAGE})
