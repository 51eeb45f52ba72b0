"""Read prompts of a user's own: JSONL, one `{id?, question | messages | prompt}` a line.

    {"id": "a", "question": "Should a clinic ask every patient about pregnancy? (a) ... (b) ..."}
    {"id": "b", "messages": [{"role": "user", "content": "Say hello."}]}
    {"prompt": "Say hello."}

A question is put as in training, with the instructions, and its conclusion is read. Messages are
put as they are, and so is a `prompt`: a list of messages, or the user's turn as a text.
`data.row_forms` says how a line without an id gets one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from dart_jax.data.row_forms import (
    OTHER_PROMPTS,
    TextOrTurns,
    check_id,
    check_prompt,
    ids_of,
    refuse_other_names,
    turns_of,
)
from dart_jax.prompts.templates import Message, answer_messages
from dart_jax.records import BadRecord, Condition, Question, Turn, from_json
from dart_jax.strict_json import parse_line, read_lines

_NO_ANSWERS = {
    "completion": "a prompt has none; leave it out, and a last turn of the assistant, too",
    "label": "a prompt has none; leave it out",
}


@dataclass(frozen=True)
class PromptLine:
    """Hold one line, in which exactly one of `question`, `messages` and `prompt` is given.

    Attributes:
        id: Given by `read_prompts` where the line has none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str | None = None
    question: str | None = None
    messages: list[Turn] | None = None
    prompt: TextOrTurns | None = None

    def __post_init__(self) -> None:
        check_id(self.id)
        if sum(given is not None for given in (self.question, self.messages, self.prompt)) != 1:
            raise ValueError("give either question or messages or prompt")
        if self.question is None:
            check_prompt(self._turns(), "prompt" if self.messages is None else "messages")
        elif not self.question.strip():
            raise ValueError("question is empty")

    def conversation(self) -> tuple[Message, ...]:
        """Give the messages that the model sees."""
        if self.question is not None:
            return question_messages(self.question)
        return tuple(dataclasses.asdict(turn) for turn in self._turns())

    def _turns(self) -> tuple[Turn, ...]:
        return turns_of(self.messages if self.prompt is None else self.prompt)


def question_messages(text: str) -> tuple[Message, ...]:
    """Put a question under the instructions of training."""
    return answer_messages(Question("", "", Condition.DIFF, text, 0, ""))


def read_prompts(path: Path) -> list[PromptLine]:
    """Read all prompts of a file.

    Raises:
        BadRecord: With file and line of what is wrong; an id occurs twice; there are none.
        FileNotFoundError, IsADirectoryError: There is no such file.
    """
    prompts = []
    for where, line in read_lines(path):
        written = parse_line(line, where)
        # Another tool's key is answered with what to write instead, before it counts as unknown.
        if isinstance(written, dict):
            known = PromptLine.__dataclass_fields__
            refuse_other_names(written, known, OTHER_PROMPTS | _NO_ANSWERS, where)
        prompts.append(from_json(line, PromptLine, where))
    if not prompts:
        raise BadRecord(f"{path}: no prompts")

    ids = ids_of(
        [prompt.id for prompt in prompts],
        [prompt.question or list(prompt.conversation()) for prompt in prompts],
    )
    seen: set[str] = set()
    for prompt_id in ids:
        if prompt_id in seen:
            raise BadRecord(f"{path}: two prompts have the id {prompt_id!r}")
        seen.add(prompt_id)
    return [
        dataclasses.replace(prompt, id=prompt_id)
        for prompt, prompt_id in zip(prompts, ids, strict=True)
    ]
