"""Tables of any nested numbers, for those parts of a summary that the page shows as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from dart_jax.evaluate.page_tables import Table, flat


def statistics(name: str, value: Any) -> list[Table]:
    """Tables of any nested numbers, such as `summary["statistics"]`, in whatever form.

    A mapping becomes a table of its plain values and tables of the others; a list of mappings a
    table with a column a key (`models.M0.accuracy`), and of the lists in its rows another, whose
    rows repeat what theirs say.
    """
    if isinstance(value, Mapping):
        plain = [(key, _cell(each)) for key, each in value.items() if not _nested(each)]
        tables = [Table(name, ("", ""), plain)] if plain else []
        nested = {key: each for key, each in value.items() if _nested(each)}
        if nested and not any(map(_deep, nested.values())):
            rows = [{"": key, **each} for key, each in nested.items()]
            return [*tables, _rows_table(name, rows)]
        return tables + [
            table for key, each in nested.items() for table in statistics(f"{name}: {key}", each)
        ]
    rows = [dict(flat(row)) for row in value if isinstance(row, Mapping)]
    own = [{key: each for key, each in row.items() if not _nested(each)} for row in rows]
    tables = [_rows_table(name, own)] if own else []
    for key in dict.fromkeys(key for row in rows for key, each in row.items() if _nested(each)):
        inner = [
            {**{k: v for k, v in plain.items() if "." not in k}, **each}
            for plain, row in zip(own, rows, strict=True)
            for each in row.get(key, ())
        ]
        tables += statistics(f"{name}: {key}", inner)
    return tables


def _rows_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A column a key; an `interval` stands in the cell of what is before it."""
    found = list(dict.fromkeys(key for row in rows for key in row))
    after = dict(pairwise(found))
    keys = [found[0], *(key for key in found[1:] if not key.endswith("interval"))]
    words = [isinstance(rows[0].get(key), str) for key in keys]

    def cell(row: Mapping[str, Any], key: str) -> str:
        own, behind = _cell(row.get(key)), after.get(key, "")
        known = behind.endswith("interval") and row.get(behind) is not None
        return f"{own} {_cell(row[behind])}" if known else own

    cells = [[cell(row, key) for key in keys] for row in rows]
    return Table(name, keys, cells, words=words.index(False) if False in words else len(words))


def _nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value)


def _deep(value: Any) -> bool:
    """Whether it is no mapping of plain values."""
    return not isinstance(value, Mapping) or any(map(_nested, value.values()))


def _cell(value: Any) -> str:
    match value:
        case None:
            return "n/a"
        case float():
            return f"{value:.4g}"
        case list():
            return f"[{', '.join(map(_cell, value))}]"
    return str(value)
