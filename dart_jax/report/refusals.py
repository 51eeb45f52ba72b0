"""How right the rules for refusals are: tables, and the words beside a rate of refusals."""

from __future__ import annotations

from pathlib import PurePath

from dart_jax.evaluate.refusal_error import MEASURES, FileError, RefusalError, RefusalMeasurement
from dart_jax.report.cells import percent, with_bounds
from dart_jax.report.document import Column, Table


def error_table(measured: RefusalMeasurement) -> Table:
    """Tabulate the error on each file of labelled answers, and on its halves."""
    rows = []
    for file in measured.files:
        for part, error in file.parts.items():
            row = {"file": file.name, "prompts": part, "n": error.n}
            rows.append(row | {name: error.estimate(name) for name in MEASURES})

    columns = (
        Column("file", "file"),
        Column("prompts", "prompts"),
        Column("n", "n", "count"),
        *(Column(name, name, "interval") for name in MEASURES),
    )
    covered = f"{100 * measured.confidence:g} %"
    caption = f"Full refusals by the rules against people's labels, in % with {covered} intervals"
    return Table("refusal_error", caption, columns, rows)


def confusion_table(file: FileError) -> Table:
    """Tabulate the answers of a file: labels by people down, grades by the rules across."""
    confusion = file.all.confusion
    rows = [{"people": label, **counts} for label, counts in confusion.items()]
    columns = (
        Column("people", "people \\ rules"),
        *(Column(grade, grade, "count") for grade in confusion),
    )
    return Table("confusion", f"{file.name}, {file.all.n} answers", columns, rows)


def error_words(measured: RefusalMeasurement) -> str:
    """The note beside a rate of refusals that the rules have decided.

    Its figures are of the answers that were not in view, which every file has to have.
    """
    files = []
    for file in measured.files:
        error = file.parts["not in view"]
        values = [f"{name} {_words(error, name)}" for name in ("precision", "recall")]
        files.append(f"{PurePath(file.name).stem}: {', '.join(values)}")

    covered = f"{100 * measured.confidence:g} %"
    return (
        "Refusals are decided by rules. Against people's labels of answers that were not in view "
        f"when the rules were written, full refusal or not, in % with {covered} intervals: "
        f"{'; '.join(files)}."
    )


def _words(error: RefusalError, name: str) -> str:
    return f"{with_bounds(error.estimate(name), percent)} (n {error.n})"
