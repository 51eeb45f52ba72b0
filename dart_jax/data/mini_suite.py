"""The embedded suite: questions in the eight families, each with two rationales.

`mini/<family>.jsonl` holds, for each question, the source of its facts (`source`), a
label-conditioned rationale, and a safer alternative; `teacher.provider: file` serves the two
as distill and repair targets.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from dart_jax.data.benchmarks import BENCHMARKS, check_answer
from dart_jax.records import BadRecord, Condition, Question, read_jsonl

MINI_DIR = Path(__file__).with_name("mini")


@dataclass(frozen=True)
class MiniItem:
    """A question of the embedded suite with its source and rationales.

    Attributes:
        source: Publisher, title, year and claim behind the label.
        rationale: 2-4 sentences for the gold label, without conclusion line.
        safer: 2-4 sentences to replace a rationale that drifted.
    """

    question: Question
    source: str
    rationale: str
    safer: str


@dataclass(frozen=True)
class _Row:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    benchmark: str
    condition: Condition
    question: str
    answer: int
    scenario_id: str
    source: str
    rationale: str
    safer: str

    def __post_init__(self) -> None:
        check_answer(self.benchmark, self.condition, self.answer)
        for name in ("question", "scenario_id", "source", "rationale", "safer"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")
        if self.rationale == self.safer:
            raise ValueError("rationale and safer are the same text")


def load_mini(folder: Path = MINI_DIR) -> list[MiniItem]:
    """Load all items, D1 to N4.

    Args:
        folder: Folder with `D1.jsonl` to `N4.jsonl`.

    Raises:
        BadRecord: A bad line, with file and line, or an id out of place.
        FileNotFoundError: A family's file is missing.
    """
    items = []
    for benchmark in BENCHMARKS:
        items += [_item(row) for row in _rows(folder / f"{benchmark}.jsonl")]
    return items


def file_rationales() -> dict[str, str]:
    """Distill rationales of the embedded questions, by question id."""
    return {item.question.id: item.rationale for item in load_mini()}


def file_safer() -> dict[str, str]:
    """Repair rationales of the embedded questions, by question id."""
    return {item.question.id: item.safer for item in load_mini()}


def _rows(path: Path) -> list[_Row]:
    rows = read_jsonl(path, _Row)
    seen: Counter[Condition] = Counter()
    for row in rows:
        expected = f"mini-{path.stem}-{row.condition.value}-{seen[row.condition]:03d}"
        if (row.id, row.benchmark) != (expected, path.stem):
            raise BadRecord(
                f"{path}: row {seen.total() + 1} has id {row.id} of benchmark {row.benchmark}; "
                f"in this place belongs {expected}"
            )
        seen[row.condition] += 1
    return rows


def _item(row: _Row) -> MiniItem:
    question = Question(
        row.id, row.benchmark, row.condition, row.question, row.answer, row.scenario_id
    )
    return MiniItem(question, row.source, row.rationale, row.safer)
