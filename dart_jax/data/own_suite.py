"""A team's own labelled questions: a JSONL file, or a data set of the Hugging Face hub.

    {"id": "hr-1", "question": "May ...?", "label": "NO"}
    {"id": "hr-2", "question": "Must ...?", "label": "YES", "completion": "It must ...",
     "weight": 2.0, "benchmark": "leave", "scenario": "parents"}

With `teacher.provider: file` the completions are the distill targets. `weight` multiplies the
loss of the question's distill target, whoever wrote it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.prompts.conclusion import analysis_text, parse_conclusion
from dart_jax.records import BadRecord, Condition, Decision, Question, from_json, read_jsonl

NO_OPTIONS = -1
"""`Question.answer` of a question without options."""


@dataclass(frozen=True)
class OwnItem:
    """A question and what its row says beside it.

    Attributes:
        rationale: Analysis text without conclusion line; None when the row has no completion.
        weight: Loss weight of the distill target, above 0.
    """

    question: Question
    rationale: str | None
    weight: float


@dataclass(frozen=True)
class _Row:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    question: str
    label: Literal["YES", "NO"]
    completion: str | None = None
    weight: float = 1.0
    benchmark: str = "own"
    scenario: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "question", "benchmark"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")
        if not 0.0 < self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight}; it must be above 0 and finite")
        if self.completion is not None:
            _check_completion(self.completion, self.label)


def load_file(path: Path) -> list[OwnItem]:
    """All items of a JSONL file, in its order.

    Raises:
        BadRecord: A bad line, with file and line; an id that comes twice; an empty file.
        FileNotFoundError: No such file.
    """
    return _items(read_jsonl(Path(path), _Row), str(path))


def load_hub(name: str, split: str) -> list[OwnItem]:
    """All items of a data set that `datasets.load_dataset` finds by name (or by local path).

    Columns are those of the JSONL form; other columns and null values are left aside.

    Raises:
        BadRecord: A bad row, with its number; an id that comes twice; an empty data set.
    """
    from datasets import load_dataset

    known = set(_Row.__dataclass_fields__)
    where = f"{name} ({split})"
    rows = [
        from_json(json.dumps(_present(row, known)), _Row, where=f"{where}, row {number}")
        for number, row in enumerate(load_dataset(name, split=split), 1)
    ]
    return _items(rows, where)


def _present(row: dict[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key in known and value is not None}


def _items(rows: Iterable[_Row], where: str) -> list[OwnItem]:
    items = [_item(row) for row in rows]
    if not items:
        raise BadRecord(f"{where}: no question in it")
    seen: set[str] = set()
    for item in items:
        if item.question.id in seen:
            raise BadRecord(f"{where}: the id {item.question.id} comes twice")
        seen.add(item.question.id)
    return items


def _item(row: _Row) -> OwnItem:
    question = Question(
        id=row.id,
        benchmark=row.benchmark,
        condition=Condition.DIFF if row.label == Decision.YES else Condition.EQUAL,
        text=row.question,
        answer=NO_OPTIONS,
        scenario_id=row.scenario or row.id,
    )
    rationale = None if row.completion is None else analysis_text(row.completion)
    return OwnItem(question, rationale, row.weight)


def _check_completion(completion: str, label: str) -> None:
    decision, problem = parse_conclusion(completion)
    if decision is not None and decision != label:
        raise ValueError(f"completion concludes {decision.value}, but label is {label}")
    if decision is None and problem != "no conclusion line":
        raise ValueError(f"completion: {problem}")
    if not analysis_text(completion):
        raise ValueError("completion has no text before its conclusion line")
