"""Load a custom data set: a JSONL file, or a data set of the Hugging Face hub.

    {"id": "hr-1", "question": "May ...?", "label": "NO"}
    {"id": "hr-2", "question": "Must ...?", "label": "YES", "completion": "It must ...",
     "weight": 2.0, "benchmark": "leave", "scenario": "parents"}
    {"id": "chat-1", "messages": [{"role": "user", "content": "Hello?"}],
     "completion": "Hello. How can I help?", "token_weights": [1, 1, 1, 1, 3]}
    {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]}
    {"prompt": "Hello?", "completion": "Hi."}

A `question` is put within our instructions; `messages` and `prompt` are used as the whole prompt (a
text is the user's turn). If the last turn of `messages` is the assistant's, it is the completion;
earlier turns of the assistant's are items of their own where `data.learn_turns` is `all`.
`row_forms` says how a row without an id gets one.

A row with a label (YES: a difference must be recognised) is treated as a benchmark question. With
`teacher.provider: file` its completion, ended by the conclusion line, is the distill target.

A row without a label is trained on its completion as it is written, whichever teacher there is. If
it has no completion it is not trained on, and recorded in `teach/rejected.jsonl`, unless
`teacher.label: predicted` finds it a label. Unlabelled test questions are decoded and audited like
the others; they are counted as unlabelled and are in no accuracy.

`weight`, from 1e-6 to 1e6, multiplies the loss of a row's distill target, whoever wrote it.
`token_weights` weight parts of the completion if that is the target (see `written_weights`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.data.row_forms import (
    OTHER_COMPLETIONS,
    OTHER_PROMPTS,
    TextOrTurns,
    check_id,
    check_prompt,
    ids_of,
    refuse_other_names,
    turns_of,
)
from dart_jax.data.written_weights import WrittenWeights, check_supervised, weight_spans
from dart_jax.extras import need
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
)
from dart_jax.settings import LossWeight, check_value
from dart_jax.strict_json import parse_line, read_lines

NO_OPTIONS = -1
"""Value of `Question.answer` for a question without options."""


@dataclass(frozen=True)
class CustomItem:
    """A question of a custom data set with its completion and weights.

    Attributes:
        rationale: Analysis text without conclusion line; for an unlabelled row the completion as
            written; None if the row has no completion.
        weight: Loss weight of the distill target, from 1e-6 to 1e6.
        spans: Token weights of the completion, as character spans of the target.
    """

    question: Question
    rationale: str | None
    weight: float
    spans: tuple[WeightSpan, ...] = ()


@dataclass(frozen=True)
class _Row:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: str | int | None = None
    question: str | None = None
    messages: list[Turn] | None = None
    prompt: TextOrTurns | None = None
    label: Literal["YES", "NO"] | None = None
    completion: TextOrTurns | None = None
    weight: float = 1.0
    token_weights: WrittenWeights | None = None
    benchmark: str = "own"
    scenario: str | None = None

    def __post_init__(self) -> None:
        check_id(self.id)
        for name in ("question", "prompt", "benchmark", "completion"):
            value = getattr(self, name)
            if isinstance(value, str) and not value.strip():
                raise ValueError(f"{name} is empty")

        if sum(given is not None for given in (self.question, self.messages, self.prompt)) != 1:
            raise ValueError("give either question or messages or prompt")
        if self.question is None:
            check_prompt(self.conversation(), "prompt" if self.messages is None else "messages")

        check_value("weight", LossWeight, self.weight)
        answer = self.answer()
        if answer is not None and self.label is not None:
            _check_completion(answer, self.label)
        self.spans()  # raises for token weights that do not fit the completion

    def conversation(self) -> tuple[Turn, ...]:
        """The row's prompt as turns; empty for a question, which is put within our instructions."""
        if self.prompt is not None:
            return turns_of(self.prompt)
        turns = tuple(self.messages or ())
        return turns[:-1] if self._answered() else turns

    def answer(self) -> str | None:
        """The completion, given by its key or as the last turn of `messages`; None without one."""
        if self._answered():
            if self.completion is not None:
                raise ValueError(
                    "messages end with the assistant's turn, and there is a completion: give one"
                )
            answer = self.messages[-1].content
        elif isinstance(self.completion, list):
            if [turn.role for turn in self.completion] != ["assistant"]:
                raise ValueError("completion: give a text, or one turn of the assistant")
            answer = self.completion[0].content
        else:
            answer = self.completion

        if answer is not None and not answer.strip():
            raise ValueError("completion is empty")
        return answer

    def _answered(self) -> bool:
        return bool(self.messages) and self.messages[-1].role == "assistant"

    def spans(self) -> tuple[WeightSpan, ...]:
        """Token weights as character spans of the target that is made from the completion."""
        if not self.token_weights:
            return ()
        completion = self.answer()
        if completion is None:
            raise ValueError("token_weights without a completion")

        spans = weight_spans(completion, self.token_weights)
        # A labelled text without a conclusion line gets one, which is trained on whatever else
        # weighs 0.
        if self.label is None or analysis_text(completion) != completion.strip():
            check_supervised(completion, spans)
        if self.label is None:
            return spans

        # Written otherwise, a conclusion is rewritten: spans would no longer lie on its words.
        text, line = completion.strip(), conclusion_line(Decision(self.label))
        if text not in (analysis_text(text), f"{analysis_text(text)}\n{line}"):
            raise ValueError(
                f"completion: token_weights need a conclusion written as {line!r}, alone in the "
                "line after the text (or none: it is added)"
            )

        # The target is stripped of white space: move the spans to its first character, and cut
        # those that reach beyond it.
        before = len(completion) - len(completion.lstrip())
        in_target = []
        for span in spans:
            start, end = max(span.start - before, 0), min(span.end - before, len(text))
            if start < end:
                in_target.append(WeightSpan(start, end, span.weight))
        return tuple(in_target)


_KEYS = frozenset(_Row.__dataclass_fields__)


def load_file(path: Path, learn_turns: str = "last") -> list[CustomItem]:
    """Load all items of a JSONL file, in its order.

    Args:
        learn_turns: `last` or `all`, see `DataConfig`.

    Raises:
        BadRecord: A bad line, with file and line; an id that comes twice; an empty file.
        FileNotFoundError: No such file.
    """
    rows = []
    for where, line in read_lines(Path(path)):
        written = parse_line(line, where)
        if isinstance(written, dict):
            refuse_other_names(written, _KEYS, OTHER_PROMPTS | OTHER_COMPLETIONS, where)
            line = json.dumps(_as_meant(written))
        rows.append(from_json(line, _Row, where))
    return _items(rows, str(path), learn_turns)


def _as_meant(written: dict[str, Any]) -> dict[str, Any]:
    """Drop what the export of a data set says without meaning: nulls, and a prompt said twice."""
    row = _without_nulls(written)
    messages = row.get("messages")
    first_texts = []
    if isinstance(messages, list):
        # The user's first turn comes first, or after the system's.
        first_texts = [turn["content"] for turn in messages[:2] if _is_users(turn)]
    if row.get("prompt") in first_texts:
        del row["prompt"]
    return row


def _is_users(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "user" and "content" in turn


def load_hub(name: str, split: str, learn_turns: str = "last") -> list[CustomItem]:
    """Load all items of a data set that `datasets.load_dataset` finds by name or local path.

    Columns are those of the JSONL form. Other columns and null values are ignored, unless they seem
    to be the prompt or the completion that a row lacks. `messages` take precedence over `prompt`.

    Raises:
        MissingExtra: The package `datasets` is not installed.
        BadRecord: A bad row, with its number; an id that comes twice; an empty data set.
    """
    need("hub", ("datasets",), "data.suite hub")
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    where = f"{name} ({split})"
    rows: list[_Row] = []
    try:
        # `len(rows)` counts, since reading the next row may fail, too, and is to name its place.
        for columns in load_dataset(name, split=split):
            rows.append(_hub_row(columns, f"{where}, row {len(rows) + 1}"))
    except DatasetGenerationError as error:
        raise BadRecord(f"{where}: {error.__cause__ or error}") from error
    except UnicodeDecodeError as error:  # Arrow does not check that a text is UTF-8
        raise BadRecord(f"{where}, row {len(rows) + 1}: not UTF-8 ({error.reason})") from error
    return _items(rows, where, learn_turns)


def _hub_row(columns: dict[str, Any], where: str) -> _Row:
    """Validate one row of a data set, by way of its JSON form."""
    present = _without_nulls(columns)
    if "messages" in present:
        present.pop("prompt", None)
    if not present.keys() & {"question", "messages", "prompt"}:
        refuse_other_names(present, _KEYS, OTHER_PROMPTS, where)

    written = []
    for key in sorted(_KEYS & present.keys()):
        try:
            written.append(f"{json.dumps(key)}: {json.dumps(present[key])}")
        except TypeError as error:  # `datasets` makes dates of texts that look like dates
            raise BadRecord(f"{where}: {key}: {error}; cast the column to text") from error

    row = from_json(f"{{{', '.join(written)}}}", _Row, where)
    if row.answer() is None and row.label is None:
        refuse_other_names(present, _KEYS, OTHER_COMPLETIONS, where)
    return row


def _without_nulls(value: Any) -> Any:
    """Remove null values: a data set gives each row every key that any of its rows has."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _items(rows: Sequence[_Row], where: str, learn_turns: str) -> list[CustomItem]:
    """Make items with ids; raise BadRecord for an id that comes twice, or without any row."""
    ids = ids_of(
        [None if row.id is None else str(row.id) for row in rows],
        [row.question or [vars(turn) for turn in row.conversation()] for row in rows],
    )
    items: list[CustomItem] = []
    for row, row_id in zip(rows, ids, strict=True):
        if learn_turns == "all" and row.label is None:
            items += _earlier_turns(row, row_id)
        items.append(_item(row, row_id))
    if not items:
        raise BadRecord(f"{where}: no question in it")

    seen: set[str] = set()
    for item in items:
        if item.question.id in seen:
            raise BadRecord(f"{where}: the id {item.question.id} comes twice")
        seen.add(item.question.id)
    return items


def _earlier_turns(row: _Row, row_id: str) -> list[CustomItem]:
    """Make an item of each turn of the assistant's within a row's prompt."""
    turns = row.conversation()
    items = []
    for place, turn in enumerate(turns):
        # A greeting that nobody asked for is the answer to no prompt.
        if place == 0 or turn.role != "assistant" or not turn.content.strip():
            continue

        question = Question(
            id=f"{row_id}/turn-{place + 1}",
            benchmark=row.benchmark,
            condition=None,
            text=_transcript(turns[:place]),
            answer=NO_OPTIONS,
            # As the row's own: a split by scenario does not divide a conversation.
            scenario_id=row.scenario or row_id,
            messages=turns[:place],
        )
        items.append(CustomItem(question, turn.content, row.weight))
    return items


def _item(row: _Row, row_id: str) -> CustomItem:
    turns = row.conversation()
    question = Question(
        id=row_id,
        benchmark=row.benchmark,
        condition={"YES": Condition.DIFF, "NO": Condition.EQUAL}.get(row.label or ""),
        text=_transcript(turns) if turns else row.question,
        answer=NO_OPTIONS,
        scenario_id=row.scenario or row_id,
        messages=turns,
    )

    rationale = row.answer()
    if rationale is not None and row.label is not None:
        rationale = analysis_text(rationale)
    return CustomItem(question, rationale, row.weight, row.spans())


def _transcript(messages: Sequence[Turn]) -> str:
    """Write a chat as one text, for judges, annotators and the shortcut baseline."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in messages)


def _check_completion(completion: str, label: str) -> None:
    """Raise ValueError for a completion that cannot become the target of a labelled row."""
    if holds_thinking(completion):
        raise ValueError("completion holds a <think> block, which would be trained on; remove it")
    decision, problem = parse_conclusion(completion)
    if decision is not None and decision != label:
        raise ValueError(f"completion concludes {decision.value}, but label is {label}")
    # Where there is no conclusion line one is added; a line that cannot be read is a mistake.
    if decision is None and problem != NO_LINE:
        raise ValueError(f"completion: {problem}")
    if decision is not None and not ends_in_its_conclusion(completion):
        raise ValueError("completion: end it with its one conclusion line")
    if not analysis_text(completion):
        raise ValueError("completion has no text before its conclusion line")
