"""Prompts of a user's own: JSONL, one `{"id", "question" | "messages"}` a line.

    {"id": "a", "question": "Should a clinic ask every patient about pregnancy? (a) ... (b) ..."}
    {"id": "b", "messages": [{"role": "user", "content": "Say hello."}]}

A question is put as in training, with the instructions, and its conclusion is read. Messages are
put as they are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.prompts.templates import Message, answer_messages
from dart_jax.records import BadRecord, Condition, Question, read_jsonl


@dataclass(frozen=True)
class _Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class PromptLine:
    """One line; exactly one of `question` and `messages` is given."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    question: str | None = None
    messages: list[_Message] | None = None

    def __post_init__(self) -> None:
        if (self.question is None) == (self.messages is None):
            raise ValueError("give either question or messages")
        if not (self.question or self.messages):
            raise ValueError("it is empty")

    def conversation(self) -> tuple[Message, ...]:
        """What the model is given."""
        if self.question is not None:
            return question_messages(self.question)
        return tuple(dataclasses.asdict(message) for message in self.messages or ())


def question_messages(text: str) -> tuple[Message, ...]:
    """A question with the instructions of training."""
    return answer_messages(Question("", "", Condition.DIFF, text, 0, ""))


def read_prompts(path: Path) -> list[PromptLine]:
    """All prompts of a file.

    Raises:
        FileNotFoundError, BadRecord: With file and line of what is wrong; an id occurs twice.
        ValueError: There are none.
    """
    prompts = read_jsonl(path, PromptLine)
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise BadRecord(f"{path}: two prompts have the id {prompt.id!r}")
        seen.add(prompt.id)
    if not prompts:
        raise ValueError(f"{path}: no prompts")
    return prompts
