"""How right the rules for refusals are, in tables and in the words beside a rate of refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from dart_jax.evaluate.markdown import Lines, escape
from dart_jax.evaluate.refusal_error import MEASURES
from dart_jax.evaluate.sections import with_interval

PARTS = ("all", "in view", "not in view")


def error_table(measured: Mapping[str, Any]) -> Lines:
    """Header and rows: each file and its halves, in per cent with intervals."""
    rows = [
        (
            escape(file["name"]),
            part,
            str(file[part]["n"]),
            *(with_interval(file[part][name], file[part]["intervals"][name]) for name in MEASURES),
        )
        for file in measured["files"]
        for part in PARTS
        if part in file
    ]
    return ("file", "prompts", "n", *MEASURES), rows


def confusion_table(part: Mapping[str, Any]) -> Lines:
    """Header and rows: labels by people down, grades by the rules across."""
    grades = list(part["confusion"])
    rows = [(label, *map(str, row.values())) for label, row in part["confusion"].items()]
    return ("people \\ rules", *grades), rows


def error_words(measured: Mapping[str, Any]) -> str:
    """What stands beside a rate of refusals that the rules have decided."""
    covered = f"{100 * measured['confidence']:g} %"
    found = "; ".join(
        f"{escape(PurePath(file['name']).stem)}: precision {_value(file, 'precision')}, "
        f"recall {_value(file, 'recall')}"
        for file in measured["files"]
    )
    return (
        "Refusals are decided by rules. Against people's labels of answers that were not in view "
        f"when the rules were written, full refusal or not, in % with {covered} intervals: {found}."
    )


def _value(file: Mapping[str, Any], name: str) -> str:
    part = file["not in view"]
    return f"{with_interval(part[name], part['intervals'][name])} (n {part['n']})"
