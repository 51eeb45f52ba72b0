"""How right the rules for refusals are: tables, and the words beside a rate of refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from dart_jax.evaluate.metrics import estimate
from dart_jax.evaluate.refusal_error import MEASURES
from dart_jax.report.cells import percent, with_bounds
from dart_jax.report.document import Column, Table
from dart_jax.summaries import Estimate

_PARTS = ("all", "in view", "not in view")


def error_table(measured: Mapping[str, Any]) -> Table:
    """Each file of labelled answers and its halves."""
    rows = []
    for file in measured["files"]:
        for part in _PARTS:
            if part in file:
                row = {"file": file["name"], "prompts": part, "n": file[part]["n"]}
                rows.append(row | {name: _measure(file[part], name) for name in MEASURES})
    columns = (
        Column("file", "file"),
        Column("prompts", "prompts"),
        Column("n", "n", "count"),
        *(Column(name, name, "interval") for name in MEASURES),
    )
    covered = f"{100 * measured['confidence']:g} %"
    caption = f"Full refusals by the rules against people's labels, in % with {covered} intervals"
    return Table("refusal_error", caption, columns, rows)


def confusion_table(file: Mapping[str, Any]) -> Table:
    """Labels by people down, grades by the rules across."""
    confusion = file["all"]["confusion"]
    rows = [{"people": label, **counts} for label, counts in confusion.items()]
    columns = (
        Column("people", "people \\ rules"),
        *(Column(grade, grade, "count") for grade in confusion),
    )
    return Table("confusion", f"{file['name']}, {file['all']['n']} answers", columns, rows)


def error_words(measured: Mapping[str, Any]) -> str:
    """What stands beside a rate of refusals that the rules have decided."""
    files = []
    for file in measured["files"]:
        part = file["not in view"]
        values = [f"{name} {_words(part, name)}" for name in ("precision", "recall")]
        files.append(f"{PurePath(file['name']).stem}: {', '.join(values)}")
    covered = f"{100 * measured['confidence']:g} %"
    return (
        "Refusals are decided by rules. Against people's labels of answers that were not in view "
        f"when the rules were written, full refusal or not, in % with {covered} intervals: "
        f"{'; '.join(files)}."
    )


def _measure(part: Mapping[str, Any], name: str) -> Estimate:
    return estimate(part[name], part["intervals"][name])


def _words(part: Mapping[str, Any], name: str) -> str:
    return f"{with_bounds(_measure(part, name), percent)} (n {part['n']})"
