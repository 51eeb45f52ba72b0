"""The JSON of the chat completions API: what is read from a response."""

import json
from collections.abc import Mapping
from typing import Any

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
from dart_jax.chat.replies import reply_of
from dart_jax.strict_json import is_unicode

_TEXT_PARTS = {"text", "output_text"}
_MOST_TOKENS = 2**31
_CUT = {"length", "max_tokens", "model_length"}
"""Values of `finish_reason` for an answer that ran into a limit, of OpenAI and of other servers."""
_FILTERED = "content_filter"


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
        message, finish = choice["message"], choice.get("finish_reason")
        text = _joined(message.get("content"))
    except (KeyError, IndexError, TypeError, AttributeError):
        return ChatFailure(request.id, "the response is not a chat completion")

    if finish == _FILTERED:
        return ChatFailure(request.id, "ended by the server's content filter")
    if text is None and message.get("refusal"):
        return ChatFailure(request.id, "the service's model refused to answer")
    if isinstance(text, list):
        return ChatFailure(request.id, "the completion has a part that is not text")

    text = text if isinstance(text, str) else ""
    if not is_unicode(text):
        return ChatFailure(request.id, "the completion is not valid Unicode")

    is_cut = str(finish).lower() in _CUT
    return reply_of(request, text, is_cut, *(read_usage(response) or (0, 0)))


def _joined(content: Any) -> Any:
    """A content that is a list of text parts, as one text; any other as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        is_text = isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS
        if not is_text or not isinstance(part.get("text"), str):
            return content
        texts.append(part["text"])
    return "".join(texts)


def read_usage(response: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens that the server reports; None where it does not."""
    usage = response.get("usage") if isinstance(response, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    if not all(type(count) is int and 0 <= count < _MOST_TOKENS for count in counts):
        return None
    return counts[0], counts[1]
