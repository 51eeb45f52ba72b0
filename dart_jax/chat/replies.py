"""What counts as an answer: one rule for what servers and local models write."""

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
from dart_jax.prompts.thinking import UNFINISHED, json_after_thinking, without_thinking


def reply_of(
    request: ChatRequest,
    text: str,
    is_cut: bool,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
) -> ChatReply | ChatFailure:
    """The answer in what a model wrote; a failure where there is none, or not all of it.

    Args:
        text: All that was written, reasoning blocks included; see `prompts.thinking`.
        is_cut: Whether it ended at the limit of new tokens.
    """
    read = without_thinking if request.json_schema is None else json_after_thinking
    answer = read(text)
    cut_off = f"cut off at max_tokens {request.max_tokens}; raise it"
    if answer is None:
        return ChatFailure(request.id, f"{UNFINISHED}; {cut_off}" if is_cut else UNFINISHED)
    if is_cut and not request.may_be_cut:
        return ChatFailure(request.id, cut_off)
    if not answer.strip():
        return ChatFailure(request.id, "empty completion")
    return ChatReply(request.id, answer, prompt_tokens, completion_tokens)
