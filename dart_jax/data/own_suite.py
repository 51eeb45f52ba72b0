"""A team's own rows: a JSONL file, or a data set of the Hugging Face hub.

    {"id": "hr-1", "question": "May ...?", "label": "NO"}
    {"id": "hr-2", "question": "Must ...?", "label": "YES", "completion": "It must ...",
     "weight": 2.0, "benchmark": "leave", "scenario": "parents"}
    {"id": "chat-1", "messages": [{"role": "user", "content": "Hello?"}],
     "completion": "Hello. How can I help?", "token_weights": [1, 1, 1, 1, 3]}

A `question` is put within our instructions; `messages` are the prompt as it is.

With a label (YES: a difference must be recognised) a row is one of the method's questions. With
`teacher.provider: file` its completion, ended by the conclusion line, is the distill target.

Without a label, the completion is a target as it is written, whichever teacher there is, and a
row without one is not trained on, unless `teacher.label: predicted` finds it a label; that is
recorded in `teach/rejected.jsonl`. Unlabelled test questions are decoded and audited like
others; they are counted as unlabelled and are in no accuracy.

`weight` multiplies the loss of a row's distill target, whoever wrote it; `token_weights` weigh
parts of the completion (`written_weights` says how), where that is what is trained on.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.data.written_weights import WrittenWeights, weight_spans
from dart_jax.prompts.conclusion import (
    NO_LINE,
    analysis_text,
    conclusion_line,
    ends_in_its_conclusion,
    parse_conclusion,
)
from dart_jax.prompts.thinking import holds_thinking
from dart_jax.records import (
    BadRecord,
    Condition,
    Decision,
    Question,
    Turn,
    WeightSpan,
    from_json,
    read_jsonl,
)

NO_OPTIONS = -1
"""`Question.answer` of a question without options."""


@dataclass(frozen=True)
class OwnItem:
    """A question and what its row says beside it.

    Attributes:
        rationale: Analysis text without conclusion line, of an unlabelled row its completion as
            written; None when the row has no completion.
        weight: Loss weight of the distill target, above 0.
        spans: The completion's token weights; places in the target made from it.
    """

    question: Question
    rationale: str | None
    weight: float
    spans: tuple[WeightSpan, ...] = ()


@dataclass(frozen=True)
class _Row:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str
    question: str | None = None
    messages: list[Turn] | None = None
    label: Literal["YES", "NO"] | None = None
    completion: str | None = None
    weight: float = 1.0
    token_weights: WrittenWeights | None = None
    benchmark: str = "own"
    scenario: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "question", "benchmark", "completion"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise ValueError(f"{name} is empty")
        if (self.question is None) == (self.messages is None):
            raise ValueError("give either question or messages")
        if self.messages is not None:
            _check_messages(self.messages)
        if not 0.0 < self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight}; it must be above 0 and finite")
        if self.completion is not None and self.label is not None:
            _check_completion(self.completion, self.label)
        self.spans()

    def spans(self) -> tuple[WeightSpan, ...]:
        """The token weights, as places in the target that is made from the completion."""
        if not self.token_weights:
            return ()
        if self.completion is None:
            raise ValueError("token_weights without a completion")
        spans = weight_spans(self.completion, self.token_weights)
        if self.label is None:
            return spans
        text, line = self.completion.strip(), conclusion_line(Decision(self.label))
        if text not in (analysis_text(text), f"{analysis_text(text)}\n{line}"):
            raise ValueError(
                f"completion: token_weights need a conclusion written as {line!r}, alone in the "
                "line after the text (or none: it is added)"
            )
        # The target begins with the text's first character.
        before = len(self.completion) - len(self.completion.lstrip())
        return tuple(
            WeightSpan(max(span.start - before, 0), min(span.end - before, len(text)), span.weight)
            for span in spans
            if max(span.start, before) < min(span.end, before + len(text))
        )


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
        condition={"YES": Condition.DIFF, "NO": Condition.EQUAL}.get(row.label or ""),
        text=row.question if row.messages is None else _transcript(row.messages),
        answer=NO_OPTIONS,
        scenario_id=row.scenario or row.id,
        messages=tuple(row.messages or ()),
    )
    rationale = row.completion
    if rationale is not None and row.label is not None:
        rationale = analysis_text(rationale)
    return OwnItem(question, rationale, row.weight, row.spans())


def _transcript(messages: list[Turn]) -> str:
    """A chat as one text, for those who read it: judges, people, the shortcut baseline."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in messages)


def _check_messages(messages: list[Turn]) -> None:
    if not any(turn.content.strip() for turn in messages):
        raise ValueError("messages are empty")
    if messages[-1].role == "assistant":
        raise ValueError("messages end with the assistant's turn; that belongs in completion")


def _check_completion(completion: str, label: str) -> None:
    if holds_thinking(completion):
        raise ValueError("completion holds a <think> block, which would be trained on; remove it")
    decision, problem = parse_conclusion(completion)
    if decision is not None and decision != label:
        raise ValueError(f"completion concludes {decision.value}, but label is {label}")
    if decision is None and problem != NO_LINE:
        raise ValueError(f"completion: {problem}")
    if decision is not None and not ends_in_its_conclusion(completion):
        raise ValueError("completion: end it with its one conclusion line")
    if not analysis_text(completion):
        raise ValueError("completion has no text before its conclusion line")
