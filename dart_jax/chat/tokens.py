"""Estimate token counts where no tokenizer of the service is at hand."""

from collections.abc import Sequence

from dart_jax.chat.protocol import ChatRequest, Message

_BYTES_PER_TOKEN = 3
_TOKENS_PER_MESSAGE = 8


def estimate_tokens(text: str) -> int:
    """Count one token for 3 bytes of UTF-8, too many: English has 4 to 5 bytes in one."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def estimate_prompt(messages: Sequence[Message]) -> int:
    """Estimate the tokens of a conversation, with 8 for the frame of each message."""
    return sum(_TOKENS_PER_MESSAGE + estimate_tokens(message["content"]) for message in messages)


def estimate_request(request: ChatRequest) -> int:
    """Estimate the upper bound of a request: its prompt, its schema and all new tokens."""
    return estimate_prompt(request.messages) + estimate_schema(request) + request.max_tokens


def estimate_schema(request: ChatRequest) -> int:
    """Estimate the tokens of a request's schema; 0 without one."""
    return estimate_tokens(str(request.json_schema)) if request.json_schema else 0
