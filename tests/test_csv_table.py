"""Tables of any spreadsheet are read by their column names; what cannot be told is refused."""

import csv

import pytest

from dart_jax.csv_table import BEYOND, read_table
from dart_jax.strict_json import BadRecord


def table(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def rows(path, *needed):
    return [(where.rpartition(":")[2], row) for where, row in read_table(path, needed)]


def test_rows_are_named_by_their_first_line(tmp_path):
    path = table(tmp_path, '\n a ,B\n"1\n2",x\n\n,\n3,"y, z"\n')
    assert rows(path, "a") == [("3", {"a": "1\n2", "b": "x"}), ("7", {"a": "3", "b": "y, z"})]


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_the_first_row_tells_what_separates(tmp_path, separator):
    """Commas in texts, and in the name of another column, are no sign of it."""
    lines = ['"b, or: x, y, z"', "a"], ['"1,5"', '"2;5"']
    path = table(tmp_path, "\n".join(map(separator.join, lines)))
    assert rows(path, "a") == [("2", {"b, or: x, y, z": "1,5", "a": "2;5"})]


def test_cells_under_no_name_are_kept_apart(tmp_path):
    path = table(tmp_path, ",a,,\n0,x,,\n1,x,,,\n2,x,y,\n3,x,,,z\n4\n")
    assert [row for _, row in rows(path, "a")] == [
        {"a": "x"},
        {"a": "x", BEYOND: ""},
        {"a": "x", BEYOND: "y"},
        {"a": "x", BEYOND: "z"},
        {},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: no column a, b"),
        ("a|b\n1|2\n", r":1: no column a, b; .*commas, semicolons or tabs"),
        ("a;c\n1;2\n", r":1: no column b"),
        ("a,b, A\n1,2,3\n", r":1: the column a is there twice"),
        ('a,b\n1,2\n"3,4\n5,6\n', r":3: not CSV: unexpected end of data"),
        ('a,b\n"1"x,2\n', r":2: not CSV: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(BadRecord, match=r"table\.csv" + message):
        read_table(table(tmp_path, text), ("a", "b"))


def test_a_long_cell_is_read_and_the_librarys_limit_left_as_it_was(tmp_path):
    limit = csv.field_size_limit()
    [(_, row)] = rows(table(tmp_path, f"a\n{'x' * (limit + 1)}\n"), "a")
    assert len(row["a"]) == limit + 1
    assert csv.field_size_limit() == limit
