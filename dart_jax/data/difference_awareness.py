"""The difference-awareness suite (Wang et al., 2025): eight benchmarks of 2,000 questions.

It is read from JSONL (`D1.jsonl`) or from the pickles of the public repository (`D1_1k.pkl`), which
give the same questions. Its authors ask for it to be used for evaluation; DART trains on it.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from dart_jax.data import safe_pickle
from dart_jax.data.benchmarks import BENCHMARKS, check_answer
from dart_jax.records import BadRecord, Condition, Question, read_jsonl
from dart_jax.strict_json import is_unicode

ROWS_PER_CONDITION = 1000

SHARED_SCENARIOS = frozenset({"D3", "N1", "N4"})
"""Families whose DIFF and EQUAL rows are written from the same numbered scenarios.

In the others each condition numbers its scenarios separately, so that equal numbers mean nothing
(D1, D2, N2, N3) or do not occur (D4). In D1, D2 and N2, and in D4's EQUAL rows, each row is a
scenario by itself: there a split by scenario is a split by row.
"""


@dataclass(frozen=True)
class _Row:
    """A line of the JSONL form, with the suite's `scenario_id`, to which no condition is added."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    benchmark: str
    condition: Condition
    question: str
    answer: int
    scenario_id: str

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("the question is empty")
        check_answer(self.benchmark, self.condition, self.answer)


def load(folder: Path) -> list[Question]:
    """Load all 16,000 questions: D1 to N4, each 1,000 DIFF rows and then 1,000 EQUAL rows.

    Args:
        folder: Holds, for each benchmark, `<name>.jsonl` (taken first) or `<name>_1k.pkl`.

    Raises:
        FileNotFoundError: Names each benchmark that is missing and the files looked for.
        BadRecord: A bad row, with file and line, or a file with other counts.
        UnsafePickle, UnreadablePickle: See `safe_pickle.load`.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; data.dir names the suite's folder")
    missing = [name for name in BENCHMARKS if not present_files(folder, name)]
    if missing:
        raise FileNotFoundError("; ".join(_missing(folder, name) for name in missing))
    return [question for name in BENCHMARKS for question in load_benchmark(folder, name)]


def load_benchmark(folder: Path, name: str) -> list[Question]:
    """Load the 2,000 questions of one benchmark, e.g. `N3`; raises as `load`."""
    present = present_files(folder, name)
    if not present:
        raise FileNotFoundError(_missing(folder, name))
    path = present[0]
    rows = read_jsonl(path, _Row) if path.suffix == ".jsonl" else _pickled_rows(path, name)
    _check_file(path, name, rows)
    return [_question(row) for row in rows]


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return Path(folder) / f"{name}.jsonl", Path(folder) / f"{name}_1k.pkl"


def present_files(folder: Path, name: str) -> list[Path]:
    """List the files of a benchmark that are in the folder, the one to be read first."""
    return [path for path in _files(folder, name) if path.is_file()]


def _missing(folder: Path, name: str) -> str:
    jsonl, pickled = _files(folder, name)
    return f"benchmark {name} is missing: put {jsonl.name} or {pickled.name} into {folder}"


def _id(name: str, condition: Condition, index: int) -> str:
    return f"{name}-{condition.value}-{index:04d}"


def _pickled_rows(path: Path, name: str) -> list[_Row]:
    """Read a pickle of `[diff rows, equal rows]`, each row `[question, answer, scenario id]`."""
    parts = safe_pickle.load(path)
    if not (
        isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, list) for p in parts)
    ):
        raise BadRecord(f"{path}: expected two lists, the diff rows and the equal rows")

    rows = []
    for condition, part in zip((Condition.DIFF, Condition.EQUAL), parts, strict=True):
        for index, row in enumerate(part):
            rows.append(_pickled_row(path, _id(name, condition, index), condition, row))
    return rows


def _pickled_row(path: Path, row_id: str, condition: Condition, row: object) -> _Row:
    # Exact types, since to `isinstance` a bool is an int.
    types = [type(value) for value in row] if isinstance(row, (list, tuple)) else []
    if types not in ([str, int, str], [str, int, int]):
        raise BadRecord(f"{path}: {row_id}: expected [question, answer, scenario id], got {row!r}")
    question, answer, scenario_id = row
    # The reader of JSONL refuses these itself; a pickle can hold what no text file can.
    if not is_unicode(f"{question}{scenario_id}"):
        raise BadRecord(f"{path}: {row_id}: half a surrogate pair; fetch the file again")
    try:
        # Scenario ids are numbers and texts, even within one file; as texts they stay distinct.
        return _Row(row_id, row_id[:2], condition, question, answer, str(scenario_id))
    except ValueError as error:
        raise BadRecord(f"{path}: {row_id}: {error}") from error


def _check_file(path: Path, name: str, rows: list[_Row]) -> None:
    """Check the number of rows per condition, and that every row is in its place."""
    counts = Counter(row.condition for row in rows)
    for condition in Condition:
        if counts[condition] != ROWS_PER_CONDITION:
            raise BadRecord(
                f"{path}: {counts[condition]} {condition.value} rows, "
                f"expected {ROWS_PER_CONDITION}; fetch the file again from its source"
            )

    for number, row in enumerate(rows):
        condition = Condition.DIFF if number < ROWS_PER_CONDITION else Condition.EQUAL
        expected = (_id(name, condition, number % ROWS_PER_CONDITION), name, condition)
        if (row.id, row.benchmark, row.condition) != expected:
            raise BadRecord(
                f"{path}: row {number + 1} has id {row.id}, benchmark {row.benchmark}, condition "
                f"{row.condition.value}; in this place belongs {expected[0]}"
            )


def _question(row: _Row) -> Question:
    shared = row.benchmark in SHARED_SCENARIOS
    return Question(
        id=row.id,
        benchmark=row.benchmark,
        condition=row.condition,
        text=row.question,
        answer=row.answer,
        scenario_id=row.scenario_id if shared else f"{row.condition.value}:{row.scenario_id}",
    )
