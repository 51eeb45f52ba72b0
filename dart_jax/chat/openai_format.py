"""The JSON of the chat completions API: what is sent for a request, what is read from a reply."""

import json
from typing import Any

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest, Message
from dart_jax.prompts.templates import load_template

JSON_MODES = ("json_schema", "json_object", "plain")
"""Ways to ask for JSON, from the strictest to the one that every server has."""


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


def parse_body(request_id: str, body: str) -> ChatReply | ChatFailure:
    """The reply in a response body, or what is wrong with it."""
    try:
        response = json.loads(body)
    except json.JSONDecodeError:
        return ChatFailure(request_id, "the response is not JSON")
    return read_response(request_id, response)


def read_response(request_id: str, response: Any) -> ChatReply | ChatFailure:
    """The reply in a parsed response; an empty completion is a failure, not an answer."""
    try:
        text = response["choices"][0]["message"].get("content")
        usage = response.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ChatFailure(request_id, "the response is not a chat completion")
    if not isinstance(text, str) or not text.strip():
        return ChatFailure(request_id, "empty completion")
    counts = usage if isinstance(usage, dict) else {}
    return ChatReply(
        request_id, text, counts.get("prompt_tokens") or 0, counts.get("completion_tokens") or 0
    )
