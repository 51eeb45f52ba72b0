"""The JSON of the chat completions API: what is sent for a request, what is read from a reply."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dart_jax.chat.endpoint import TokenField
from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest, Message, is_unicode
from dart_jax.chat.replies import reply_of
from dart_jax.prompts.templates import load_template

if TYPE_CHECKING:
    from openai import APIStatusError

JSON_MODES = ("json_schema", "json_object", "plain")
"""Ways to ask for JSON, from the strictest to the one that every server has."""

_REJECTED_PARAMETER = {400, 422}
_UNSUPPORTED = {"unsupported_parameter", "unsupported_value"}
_MOST_TOKENS = 2**31
_CUT = {"length", "max_tokens", "model_length"}
"""Values of `finish_reason` for an answer that ran into a limit, of OpenAI and of other servers."""
_FILTERED = "content_filter"


@dataclass(frozen=True)
class Dialect:
    """How a server wants to be asked; found out by what it rejects.

    Attributes:
        json_mode: Index into `JSON_MODES`.
        temperature: Whether it may be sent; a reasoning model has only its own.
    """

    token_field: TokenField
    temperature: bool = True
    json_mode: int = 0

    def arguments(self, request: ChatRequest) -> dict[str, Any]:
        """The request's part of the body."""
        settings = {self.token_field: request.max_tokens}
        if self.temperature:
            settings["temperature"] = request.temperature
        return settings | request_arguments(request, JSON_MODES[self.json_mode])

    def after(self, error: "APIStatusError", request: ChatRequest) -> "Dialect | None":
        """What to try once a server has rejected this; None where the fault is another one."""
        if error.status_code not in _REJECTED_PARAMETER:
            return None
        if error.code in _UNSUPPORTED and error.param == "max_tokens":
            if self.token_field == "max_tokens":
                return replace(self, token_field="max_completion_tokens")
        elif error.code in _UNSUPPORTED and error.param == "temperature":
            if self.temperature:
                return replace(self, temperature=False)
        elif request.json_schema is not None and self.json_mode < len(JSON_MODES) - 1:
            return replace(self, json_mode=self.json_mode + 1)
        return None

    def changes(self, before: "Dialect") -> str:
        """What became different, for the log."""
        now = {
            f"{self.token_field} for {before.token_field}": self.token_field != before.token_field,
            "no temperature, the model has its own": self.temperature != before.temperature,
            f"{JSON_MODES[self.json_mode]} for {JSON_MODES[before.json_mode]}": (
                self.json_mode != before.json_mode
            ),
        }
        return ", ".join(text for text, changed in now.items() if changed)


def request_arguments(request: ChatRequest, mode: str) -> dict[str, Any]:
    """`messages` and `response_format`; below `json_schema` the prompt has to state the schema.

    A request without a schema is the same in every mode.
    """
    schema = request.json_schema
    messages = list(request.messages)
    if schema is None:
        return {"messages": messages}
    if mode == "json_schema":
        wanted = {"name": "answer", "schema": schema, "strict": True}
        return {
            "messages": messages,
            "response_format": {"type": "json_schema", "json_schema": wanted},
        }
    messages[-1] = _with_schema(messages[-1], schema)
    if mode == "json_object":
        return {"messages": messages, "response_format": {"type": "json_object"}}
    return {"messages": messages}


def _with_schema(message: Message, schema: dict) -> Message:
    note = load_template("json_answer").substitute(schema=json.dumps(schema))
    return {**message, "content": f"{message['content']}\n\n{note}"}


def parse_body(body: str) -> Any:
    """The parsed body of a response; None where it is not JSON (as is the JSON `null`)."""
    try:
        return json.loads(body)
    except (json.JSONDecodeError, RecursionError):
        return None


def read_response(request: ChatRequest, response: Any) -> ChatReply | ChatFailure:
    """The reply in a parsed response; an empty or unfinished one is a failure, not an answer."""
    if response is None:
        return ChatFailure(request.id, "the response is not JSON")
    try:
        choice = response["choices"][0]
        text, finish = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ChatFailure(request.id, "the response is not a chat completion")
    if finish == _FILTERED:
        return ChatFailure(request.id, "ended by the server's content filter")
    text = text if isinstance(text, str) else ""
    if not is_unicode(text):
        return ChatFailure(request.id, "the completion is not valid Unicode")
    is_cut = str(finish).lower() in _CUT
    return reply_of(request, text, is_cut, *(read_usage(response) or (0, 0)))


def read_usage(response: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens that the server reports; None where it does not."""
    usage = response.get("usage") if isinstance(response, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    if not all(type(count) is int and 0 <= count < _MOST_TOKENS for count in counts):
        return None
    return counts[0], counts[1]
