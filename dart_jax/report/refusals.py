"""Show how right the rules for refusals are: tables, and the note beside a refusal rate."""

from __future__ import annotations

from pathlib import PurePath

from dart_jax.evaluate.refusal_agreement import RefusalAgreement
from dart_jax.evaluate.refusal_error import MEASURES, FileError, RefusalError, RefusalMeasurement
from dart_jax.report.cells import percent, with_bounds
from dart_jax.report.document import Column, Table


def agreement_table(agreement: RefusalAgreement) -> Table:
    """Tabulate each grader's agreement with people on each file."""
    rows = []
    for found in agreement.graders:
        row = {"file": found.file, "grader": found.grader, "n": found.error.n}
        estimates = {name: found.error.estimate(name) for name in MEASURES}
        rows.append({**row, "failed": found.failed, **estimates, "kappa": found.kappa})

    columns = (
        Column("file", "file"),
        Column("grader", "grader"),
        Column("n", "n", "count"),
        Column("failed", "failed", "count"),
        *(Column(name, f"{name}, %", "interval") for name in MEASURES),
        Column("kappa", "kappa", "measure"),
    )
    covered = f"{100 * agreement.confidence:g} %"
    caption = (
        f"Graders of refusals against people's labels, with {covered} intervals: full refusals, "
        "and Cohen's kappa over full, partial and none"
    )
    return Table("refusal_agreement", caption, columns, rows)


def confusion_table(file: FileError) -> Table:
    """Tabulate the answers of a file: labels by people down, grades by the rules across."""
    confusion = file.error.confusion
    rows = [{"people": label, **counts} for label, counts in confusion.items()]
    columns = (
        Column("people", "people \\ rules"),
        *(Column(grade, grade, "count") for grade in confusion),
    )
    return Table("confusion", f"{file.name}, {file.error.n} answers", columns, rows)


def error_words(measured: RefusalMeasurement) -> str:
    """Write the note beside a rate of refusals that the rules have decided."""
    files = []
    for file in measured.files:
        values = [f"{name} {_words(file.error, name)}" for name in ("precision", "recall")]
        files.append(f"{PurePath(file.name).stem}: {', '.join(values)}")

    covered = f"{100 * measured.confidence:g} %"
    return (
        "Refusals are decided by rules. Against people's labels of two models' answers, full "
        f"refusal or not, in % with {covered} intervals: {'; '.join(files)}. All of these answers "
        "were in view when the rules were written; on other models they are not measured."
    )


def _words(error: RefusalError, name: str) -> str:
    return f"{with_bounds(error.estimate(name), percent)} (n {error.n})"
