"""One rule for what counts as an answer, by servers and by local models."""

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
from dart_jax.prompts.thinking import UNFINISHED, json_after_thinking, without_thinking


def reply_of(
    request: ChatRequest,
    text: str,
    is_cut: bool,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
) -> ChatReply | ChatFailure:
    """Extract the answer from a model's text; a missing or unfinished one is a failure.

    Args:
        text: The whole text, reasoning blocks included; see `prompts.thinking`.
        is_cut: Whether the text ended at the limit of new tokens.
    """
    strip = without_thinking if request.json_schema is None else json_after_thinking
    answer = strip(text)
    cut_off = f"cut off at max_tokens {request.max_tokens}; raise it"
    # Even one that may be cut is a failure here: the answer has not begun.
    if answer is None:
        return ChatFailure(request.id, f"{UNFINISHED}; {cut_off}" if is_cut else UNFINISHED)
    if is_cut and not request.may_be_cut:
        return ChatFailure(request.id, cut_off)
    if not answer.strip():
        return ChatFailure(request.id, "empty completion")
    return ChatReply(request.id, answer, prompt_tokens, completion_tokens)
