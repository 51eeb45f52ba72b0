"""Dialects of the chat completions API: learned from what a server rejects, and remembered."""

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dart_jax.chat.endpoint import TokenField
from dart_jax.chat.protocol import ChatRequest, Message
from dart_jax.chat.server_errors import lacks_model, refuses
from dart_jax.prompts.templates import load_template

if TYPE_CHECKING:
    from openai import APIStatusError

JSON_MODES = ("json_schema", "json_object", "plain")
"""Ways to ask for JSON, from the strictest to the one that every server supports."""

NO_JSON_MODE = {500, 501}
"""Statuses by which some servers, instead of a 4xx, refuse a JSON mode that they lack."""

_REJECTED_PARAMETER = {400, 422}
_OTHER_PARAMETERS = ("max_tokens", "max_completion_tokens", "temperature")


@dataclass(frozen=True)
class Dialect:
    """The form of the requests that a server accepts.

    Attributes:
        token_field: Name of the limit on new tokens.
        temperature: Whether a temperature may be sent; a reasoning model has only its own.
        json_mode: Index into `JSON_MODES`.
        logprobs: Whether log-probabilities may be asked for.
    """

    token_field: TokenField
    temperature: bool = True
    json_mode: int = 0
    logprobs: bool = True

    def arguments(self, request: ChatRequest) -> dict[str, Any]:
        """Return the request's part of the body."""
        settings = {self.token_field: request.max_tokens}
        if self.temperature:
            settings["temperature"] = request.temperature
        if self.logprobs and request.top_logprobs:
            settings |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return settings | request_arguments(request, JSON_MODES[self.json_mode])

    def after(
        self, error: "APIStatusError", request: ChatRequest, json_works: bool
    ) -> "Dialect | None":
        """Return the dialect to try after a server rejected this; None where the fault is another.

        Args:
            json_works: Whether the server has answered in this JSON mode before: 404 and 5xx then
                have another cause.
        """
        # Each change is made once and never taken back, so that trying comes to an end.
        rejected = error.status_code in _REJECTED_PARAMETER
        if rejected and self.token_field == "max_tokens" and refuses(error, "max_tokens"):
            return replace(self, token_field="max_completion_tokens")
        if rejected and self.temperature and refuses(error, "temperature"):
            return replace(self, temperature=False)
        if rejected and self.logprobs and request.top_logprobs and _refuses_logprobs(error):
            return replace(self, logprobs=False)

        # Neither limit nor temperature is refused: another JSON mode is left to try.
        mode = self.next_json_mode(request)
        if error.status_code in NO_JSON_MODE:
            rejected = not json_works
        elif error.status_code == 404:
            # A model that is not there has the same status.
            rejected = not json_works and not lacks_model(error)

        # A fault in one of the other parameters is not mended by another JSON mode.
        if mode is None or not rejected or error.param in _OTHER_PARAMETERS:
            return None

        return replace(self, json_mode=mode)

    def next_json_mode(self, request: ChatRequest) -> int | None:
        """Return the JSON mode to try where this one is refused; None where none is left."""
        if request.json_schema is None or self.json_mode == len(JSON_MODES) - 1:
            return None
        return self.json_mode + 1

    def changes(self, before: "Dialect", request: ChatRequest) -> str:
        """Describe what changed from another dialect, for the log."""
        changed = []
        if self.token_field != before.token_field:
            changed.append(f"it gets {self.token_field} for {before.token_field}")

        if self.temperature != before.temperature:
            changed.append(
                f"it refuses temperature {request.temperature:g}, so that its answers are decoded "
                "at its own temperature, whatever the settings say"
            )

        if self.logprobs != before.logprobs:
            changed.append("it refuses logprobs, so that scores are read from its words alone")

        if self.json_mode != before.json_mode:
            modes = JSON_MODES[self.json_mode], JSON_MODES[before.json_mode]
            changed.append("it is asked for JSON by {} for {}".format(*modes))

        return ", ".join(changed)

    def not_applied(self, request: ChatRequest) -> list[str]:
        """List the settings that were asked for but not sent; they are stored with the answer."""
        left_out = [] if self.temperature else ["temperature"]
        if request.top_logprobs and not self.logprobs:
            left_out.append("logprobs")
        if request.json_schema is not None:
            left_out += JSON_MODES[: self.json_mode]
        return left_out


class ServerDialect:
    """The dialect that a client has learned from its server.

    Attributes:
        now: The dialect in which the next request is sent first.
    """

    def __init__(self, token_field: TokenField) -> None:
        self.now = Dialect(token_field)
        self._working_json_mode: int | None = None

    def json_works(self, dialect: Dialect) -> bool:
        """Say whether a request with a schema was answered in this dialect's JSON mode."""
        return dialect.json_mode == self._working_json_mode

    def learn(
        self, first: Dialect, answered: Dialect, request: ChatRequest, server_errors: int
    ) -> str:
        """Remember the dialect in which a request was answered.

        Args:
            first: The dialect in which the request was sent first. Only changes since are learned:
                other requests may have learned something else in the meantime.
            answered: The dialect in which it was answered.
            server_errors: Number of 5xx before the answer, in the dialect of the answer. The server
                then has a bad moment, which says nothing about JSON modes.

        Returns:
            A description of what is done differently from now on; '' where nothing is.
        """
        if server_errors:
            answered = replace(answered, json_mode=first.json_mode)
        elif request.json_schema is not None:
            self._working_json_mode = answered.json_mode

        before = asdict(first)
        changed = {key: value for key, value in asdict(answered).items() if value != before[key]}
        previous = self.now
        self.now = replace(previous, **changed)
        return self.now.changes(previous, request)


def _refuses_logprobs(error: "APIStatusError") -> bool:
    return refuses(error, "logprobs") or refuses(error, "top_logprobs")


def request_arguments(request: ChatRequest, mode: str) -> dict[str, Any]:
    """Make `messages` and `response_format`; below `json_schema` the prompt states the schema.

    A request without a schema is the same in every mode.
    """
    schema = request.json_schema
    # A copy: the request's own messages are part of its key in the store.
    messages = list(request.messages)
    if schema is None:
        return {"messages": messages}

    if mode == "json_schema":
        named_schema = {"name": "answer", "schema": schema, "strict": True}
        return {
            "messages": messages,
            "response_format": {"type": "json_schema", "json_schema": named_schema},
        }

    messages[-1] = _with_schema(messages[-1], schema)
    if mode == "json_object":
        return {"messages": messages, "response_format": {"type": "json_object"}}

    return {"messages": messages}


def _with_schema(message: Message, schema: dict) -> Message:
    note = load_template("json_answer").substitute(schema=json.dumps(schema))
    return {**message, "content": f"{message['content']}\n\n{note}"}
