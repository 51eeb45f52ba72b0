"""The text that a model writes after a prompt, made of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dart_jax.generate.plan import Request
from dart_jax.model.tokenizer import ChatTokenizer
from dart_jax.records import StopReason


@dataclass(frozen=True)
class Continuation:
    """The text that a model wrote after a prompt.

    Attributes:
        tokens: New tokens, without the stop token.
        stop: Why decoding ended; None while it goes on, and for a prompt that leaves no room for
            an answer.
        problem: Why decoding could not begin; '' where it did.
    """

    id: str
    adapter: str
    tokens: tuple[int, ...]
    text: str
    stop: StopReason | None
    problem: str = ""


def whole_answer(request: Request, new: Sequence[int], tokenizer: ChatTokenizer) -> Continuation:
    """The answer of a row that has ended, with a stop token or at its limit."""
    is_eos = new[-1] in tokenizer.stop_ids
    body = new[:-1] if is_eos else new
    text = tokenizer.decode_answer(body)
    if is_eos:
        text = text.removesuffix(tokenizer.closing)
    stop = StopReason.EOS if is_eos else StopReason.LENGTH
    return Continuation(request.id, request.adapter, tuple(body), text, stop)


def answer_so_far(request: Request, new: Sequence[int], tokenizer: ChatTokenizer) -> Continuation:
    """The text of a running row so far, up to its last whole character."""
    text = tokenizer.decode_answer(new).rstrip("\ufffd")
    return Continuation(request.id, request.adapter, tuple(new), text, None)
