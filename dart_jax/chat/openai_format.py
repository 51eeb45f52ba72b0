"""Read a response of the chat completions API."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest, TokenLogprobs
from dart_jax.chat.replies import reply_of
from dart_jax.strict_json import is_unicode

_TEXT_PARTS = {"text", "output_text"}
_MOST_TOKENS = 2**31
_CUT = {"length", "max_tokens", "model_length"}
"""Values of `finish_reason` for an answer cut off at a limit, by OpenAI and by other servers."""
_FILTERED = "content_filter"


def parse_body(body: str) -> Any:
    """Parse the body of a response; None where it is not JSON (or the JSON `null`)."""
    try:
        return json.loads(body)
    except (json.JSONDecodeError, RecursionError):
        return None


def read_response(request: ChatRequest, response: Any) -> ChatReply | ChatFailure:
    """Read the reply in a parsed response; an empty or unfinished one is a failure."""
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

    logprobs = _logprobs(choice.get("logprobs")) if request.top_logprobs else ()
    if logprobs is None:
        return ChatFailure(request.id, "the log-probabilities are not in the API's form")

    is_cut = str(finish).lower() in _CUT
    prompt_tokens, completion_tokens = read_usage(response) or (0, 0)

    reply = reply_of(request, text, is_cut, prompt_tokens, completion_tokens)
    return replace(reply, logprobs=logprobs) if isinstance(reply, ChatReply) else reply


def _logprobs(found: Any) -> tuple[TokenLogprobs, ...] | None:
    """Read the tokens with their alternatives; () where there are none, None for another form."""
    if found is None or (isinstance(found, Mapping) and found.get("content") is None):
        return ()
    steps = []
    try:
        for step in found["content"]:
            pairs = [(step["token"], step["logprob"])]
            pairs += [(other["token"], other["logprob"]) for other in step["top_logprobs"]]
            if not all(isinstance(t, str) and isinstance(p, int | float) for t, p in pairs):
                return None
            steps.append(TokenLogprobs(step["token"], dict(pairs)))
    except (KeyError, TypeError):
        return None
    return tuple(steps)


def _joined(content: Any) -> Any:
    """Join a content that is a list of text parts to one text; return any other as it is."""
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
    """Read the prompt and completion tokens that the server reports; None where it does not."""
    usage = response.get("usage") if isinstance(response, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    # `type`, since True is an instance of int.
    if not all(type(count) is int and 0 <= count < _MOST_TOKENS for count in counts):
        return None
    return counts[0], counts[1]
