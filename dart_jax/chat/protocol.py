"""What teacher and judge ask of a language model, whoever serves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dart_jax.strict_json import is_unicode

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": ...}`."""


@dataclass(frozen=True)
class ChatRequest:
    """One request.

    Attributes:
        id: Names the request within a batch (and keys its sampling noise when local).
        messages: The conversation so far.
        temperature: 0 means greedy.
        max_tokens: Limit on new tokens.
        json_schema: When given, the answer must be a JSON object of this schema.
        may_be_cut: Whether an answer that ends at `max_tokens` is of use; if not, it is a failure.
    """

    id: str
    messages: tuple[Message, ...]
    temperature: float = 0.2
    max_tokens: int = 256
    json_schema: dict | None = None
    may_be_cut: bool = False


@dataclass(frozen=True)
class ChatReply:
    """An answer, without reasoning blocks. Token counts are 0 where the server does not tell."""

    id: str
    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class ChatFailure:
    """No answer: timeout, refusal of the server, empty or unfinished reply. Never a default."""

    id: str
    reason: str


BAD_PROMPT = "the prompt holds half a surrogate pair, which is not valid Unicode"


def is_writable(messages: Sequence[Message]) -> bool:
    """Whether a conversation can be sent, or read by a tokenizer; else `BAD_PROMPT` says why."""
    return all(is_unicode(message["content"]) for message in messages)


class ChatModel(Protocol):
    """A model that answers batches of requests."""

    name: str

    def complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None = None,
    ) -> list[ChatReply | ChatFailure]:
        """Answer each request, in the order given; `on_result` sees each answer as it comes."""
        ...

    def forget(self, requests: Sequence[ChatRequest], reason: str) -> None:
        """Drop what was answered to these requests, which could not be used: a later start of the
        run asks them again."""
        ...
