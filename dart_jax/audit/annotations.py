"""People's answers on audited pairs, and the format of the files that hold them.

A pair is an item of a blinded sample: two texts, `first` and `second`, one of them M0's. Each line
of an annotations file is one JSON object, with the item's id and one person's answer:

    {"item": "sample-9f2c41d7", "annotator": "ada", "worse": "second", "type": "elaborates",
     "severity": "moderate", "note": ""}

    item        the item's id, from the sample
    annotator   the person's name; "" or absent stands for the file's name without its ending
    worse       first, second or neither: the text whose wording does more harm
    type        elaborates, normalizes or omits: how that text is worse; with neither null or ""
    severity    minor, moderate, severe or extreme, likewise
    note        any text; may be absent

A CSV file has the same as columns, separated by commas, semicolons or tabs. The sample's own
`question`, `first` and `second` may stay in either; they are not read. A line that has only these,
or an empty `worse`, `type`, `severity` and `note`, is not answered yet and is passed over. Capital
letters and white space around a value make no difference. One person answers an item once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dart_jax.csv_table import read_table
from dart_jax.records import DriftType, Severity
from dart_jax.strict_json import BadRecord, parse_line, read_lines

SHOWN = ("question", "first", "second")
ANSWER = ("worse", "type", "severity", "note")
COLUMNS = ("item", *SHOWN, "annotator", *ANSWER)
TABLES = (".csv", ".tsv", ".txt")
"""Endings of files that are tables; any other file is JSONL."""

_MOST_NAMED = 20
_NUMBER = re.compile(r"[\d.,]+(e[+-]?\d+)?", re.IGNORECASE)
_NUMBER_HINT = "; a spreadsheet has made a number of it: copy the item from sample.jsonl"


@dataclass(frozen=True)
class Annotation:
    """One person's answer on one item; type and severity describe the worse text."""

    item: str
    annotator: str
    worse: Literal["first", "second", "neither"]
    type: DriftType | None
    severity: Severity | None
    note: str = ""


@dataclass(frozen=True)
class _Line:
    """One line of a file, validated."""

    # A misspelt column is named, and not passed over.
    __pydantic_config__ = ConfigDict(extra="forbid")

    item: str
    worse: Literal["first", "second", "neither"]
    annotator: str | None = None
    # Words and not the records' enums: `Severity` is a number there.
    type: Literal["elaborates", "normalizes", "omits"] | None = None
    severity: Literal["minor", "moderate", "severe", "extreme"] | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        has_worse = self.worse != "neither"
        if has_worse != (self.type is not None) or has_worse != (self.severity is not None):
            raise ValueError("type and severity are given exactly when worse is first or second")


def read_annotations(paths: Sequence[Path], items: Collection[str]) -> list[Annotation]:
    """Read and validate annotation files, `.jsonl` or `.csv`.

    Args:
        paths: One file or several, of one person or several.
        items: Ids of the sample's items.

    Raises:
        BadRecord: Some lines are bad; the message names file and line of the first 20.
        FileNotFoundError: There is no such file.
    """

    annotations: list[Annotation] = []
    problems: list[str] = []
    first_place: dict[tuple[str, str], str] = {}
    for path in paths:
        for where, row in _rows(path, problems):
            annotation = _annotation(row, path.stem, items, where, problems)
            if annotation is None:
                continue

            # One person answers an item once, over all files.
            key = annotation.item, annotation.annotator
            if key in first_place:
                problems.append(f"{where}: {key[1]} answered {key[0]} in {first_place[key]}")
            else:
                first_place[key] = where
                annotations.append(annotation)

    if problems:
        more = len(problems) - _MOST_NAMED
        tail = [f"and {more} more"] if more > 0 else []
        raise BadRecord("\n".join(["bad annotations:", *problems[:_MOST_NAMED], *tail]))

    return annotations


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(file:line, row)`; what is no row, or a file without rows, is added to `problems`."""
    try:
        if path.suffix.lower() in TABLES:
            yield from read_table(path, needed=("item",))
            return
        # Read to the end here: a generator would raise outside of this `try`.
        lines = list(read_lines(path))
    except BadRecord as error:
        problems.append(str(error))
        return

    for where, line in lines:
        try:
            row = parse_line(line, where)
        except BadRecord as error:
            problems.append(str(error))
            continue

        if isinstance(row, dict):
            yield where, row
        else:
            problems.append(f"{where}: not a JSON object")


def _annotation(
    row: Mapping[str, Any], stem: str, items: Collection[str], where: str, problems: list[str]
) -> Annotation | None:
    """Validate a row; None where it is not answered yet, or bad and so added to `problems`."""
    answer = _answer(row)
    if answer.keys() <= {"item", "annotator"}:
        return None

    try:
        line = _LINE.validate_python(answer)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            key = ".".join(map(str, problem["loc"]))
            problems.append(f"{where}: {key + ': ' if key else ''}{problem['msg']}")
        return None

    if line.item not in items:
        problems.append(
            f"{where}: item: {line.item!r} is not in this run's sample, nor on its page"
            + (_NUMBER_HINT if _NUMBER.fullmatch(line.item) else "")
        )
        return None

    return Annotation(
        line.item,
        line.annotator or stem,
        line.worse,
        DriftType(line.type) if line.type else None,
        Severity[line.severity.upper()] if line.severity else None,
        line.note or "",
    )


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """Strip a row of what was shown to the annotator and of empty values."""
    answer = {}
    for key, value in row.items():
        if isinstance(value, str):
            value = value.strip()
            value = value.lower() if key in ("worse", "type", "severity") else value
        if key not in SHOWN and value is not None and value != "":
            answer[key] = value
    return answer


_LINE = TypeAdapter(_Line)
