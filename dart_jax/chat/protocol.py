"""Protocol of a chat model, for teacher and judge: requests, replies, failures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dart_jax.strict_json import is_unicode

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": ...}`."""


@dataclass(frozen=True)
class ChatRequest:
    """One request to a chat model.

    Attributes:
        id: Name of the request within a batch (it keys the sampling noise of a local model).
        messages: The conversation so far.
        temperature: 0 means greedy.
        max_tokens: Limit on new tokens.
        json_schema: Schema of the JSON object that the answer must be; None for plain text.
        may_be_cut: Whether an answer that ends at `max_tokens` counts; if not, it is a failure.
        top_logprobs: Alternatives whose log-probabilities a service is asked for at each token; 0
            for none. A service that refuses is asked without.
    """

    id: str
    messages: tuple[Message, ...]
    temperature: float = 0.2
    max_tokens: int = 256
    json_schema: dict | None = None
    may_be_cut: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True)
class TokenLogprobs:
    """A token of a completion, and log-probabilities (nats) of what could stand in its place."""

    token: str
    alternatives: Mapping[str, float]


@dataclass(frozen=True)
class ChatReply:
    """An answer, without reasoning blocks. Token counts are 0 where the server reports none.

    Attributes:
        logprobs: The tokens of the whole completion, where they were asked for and given.
    """

    id: str
    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True)
class ChatFailure:
    """A missing answer: timeout, refusal by the server, empty or unfinished reply."""

    id: str
    reason: str


BAD_PROMPT = "the prompt holds half a surrogate pair, which is not valid Unicode"


def is_writable(messages: Sequence[Message]) -> bool:
    """Say whether a conversation can be sent or tokenized; if not, `BAD_PROMPT` is the reason."""
    return all(is_unicode(message["content"]) for message in messages)


class ChatModel(Protocol):
    """A model that answers batches of requests."""

    name: str

    def complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None = None,
    ) -> list[ChatReply | ChatFailure]:
        """Answer each request, in the order given; `on_result` gets each answer as it comes."""
        ...

    def forget(self, requests: Sequence[ChatRequest], reason: str) -> None:
        """Drop the unusable answers to these requests, so that a later start asks them again."""
        ...
