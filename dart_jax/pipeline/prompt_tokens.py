"""Count the tokens of prompts in which texts stand that are not written yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from dart_jax.chat.protocol import ChatRequest, Message
from dart_jax.chat.tokens import estimate_prompt, estimate_schema
from dart_jax.model.load import resolve_path
from dart_jax.model.tokenizer import load_tokenizer

UNKNOWN = "\N{BRAILLE PATTERN DOTS-123456}"
"""Stands for a token of a text that does not exist yet."""

UNKNOWN_OF_M0 = "\N{BRAILLE PATTERN DOTS-1}"
"""Another sign for M0's texts, so that the imagined judge can find the candidate's worse."""

_WITHOUT_UNKNOWN = dict.fromkeys(map(ord, (UNKNOWN, UNKNOWN_OF_M0)))


@cache
def prompt_counter(model: str | None) -> tuple[Callable[[ChatRequest], int], str]:
    """Choose how to count a request's prompt, by a local tokenizer or by estimate, and say how."""
    encode = _encoder(model)
    if encode is None:
        how = "prompt tokens estimated, one for 3 bytes"
        return lambda request: _count(request, estimate_prompt), how
    how = f"prompt tokens counted by the tokenizer of {model}"
    return lambda request: _count(request, lambda turns: len(encode(turns))), how


def _encoder(model: str | None) -> Callable[[Sequence[Message]], Sequence[int]] | None:
    if model is None:
        return None
    try:
        path = resolve_path(model)
    except FileNotFoundError:
        return None
    if path.is_dir() and not (path / "tokenizer_config.json").exists():
        return None
    return load_tokenizer(path).encode_prompt


def _count(request: ChatRequest, count_known: Callable[[Sequence[Message]], int]) -> int:
    known, unknown = [], 0
    for turn in request.messages:
        content = turn["content"].translate(_WITHOUT_UNKNOWN)
        known.append({**turn, "content": content})
        unknown += len(turn["content"]) - len(content)
    return count_known(known) + unknown + estimate_schema(request)
