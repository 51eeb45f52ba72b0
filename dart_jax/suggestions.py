"""Suggest the nearest known name for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known names: `; did you mean sft.epochs?`, or '' where none is near.

    For a field's name without its section, every section that has the field is suggested.
    """
    wanted, dashes = name.lstrip("-"), "--" if name.startswith("--") else ""
    names = [known_name.lstrip("-") for known_name in known]
    with_section = _of_any_section(wanted, names)
    # Where sections have the field, only the command's own options can be meant otherwise.
    candidates = [option for option in names if "." not in option] if with_section else names

    near = [*_nearest(wanted, candidates), *with_section]
    return f"; did you mean {' or '.join(dashes + option for option in near)}?" if near else ""


def _of_any_section(field: str, names: Sequence[str]) -> list[str]:
    plain = field.replace("-", "_")
    return [name for name in names if name.endswith(f".{plain}")]


def _nearest(wanted: str, names: Sequence[str]) -> list[str]:
    """The name most like the wanted one; where its section exists, the field of that section."""
    section, dot, field = wanted.rpartition(".")
    fields = [name.removeprefix(f"{section}.") for name in names if name.startswith(f"{section}.")]
    if not dot or not fields:
        return difflib.get_close_matches(wanted, names, n=1)
    near = difflib.get_close_matches(field, fields, n=1) or _with_word_like(field, fields)
    return [f"{section}.{name}" for name in near]


def _with_word_like(wanted: str, fields: Sequence[str]) -> list[str]:
    """The field with the word most like the wanted one: `normaliser` finds loss_normalization."""
    field_of = {word: field for field in fields for word in field.split("_")}
    return [field_of[word] for word in difflib.get_close_matches(wanted, field_of, n=1)]
