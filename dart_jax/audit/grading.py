"""Put single answers to a judge: each gets a validated grade or a failure.

As with pairs, a reply that is not the demanded structure is never read as a grade: the judge is
asked again and told what was wrong, and after the last attempt the answer is a `JudgeFailure`.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.judge_local import ScoreContinuations
from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest, Message
from dart_jax.records import JudgeFailure

G = TypeVar("G")

_BATCH = 8


@dataclass(frozen=True)
class Ask(Generic[G]):
    """One answer to be graded.

    Attributes:
        id, model: Whose answer, to what.
        messages: The judge's prompt.
        read: The grade of a reply, signed with the judge's name; or what is wrong with the reply,
            in one line and our own words.
    """

    id: str
    model: str
    messages: tuple[Message, ...]
    read: Callable[[str, str], G | str]


def grade(
    asks: Sequence[Ask[G]],
    chat: ChatModel,
    config: JudgeConfig,
    schema: dict,
    correction: Callable[[str], Message],
    on_result: Callable[[G | JudgeFailure], None],
) -> None:
    """Ask a service, up to `config.attempts` times for each answer.

    Args:
        schema: Of the reply, as JSON schema.
        correction: What is said about a reply with a problem.
        on_result: Sees each grade or failure as soon as it is decided, in any order.
    """
    waiting = {f"{ask.model} {ask.id}": (ask, ask.messages) for ask in asks}
    unusable: defaultdict[str, list[ChatRequest]] = defaultdict(list)

    def request(id: str) -> ChatRequest:
        _, messages = waiting[id]
        return ChatRequest(id, messages, config.temperature, config.max_tokens, schema)

    def take(result: ChatReply | ChatFailure, attempt: int) -> None:
        ask, messages = waiting[result.id]
        replied = isinstance(result, ChatReply)
        found = ask.read(result.text, chat.name) if replied else result.reason

        if not isinstance(found, str):
            del waiting[result.id]
            on_result(found)
            return

        if replied:
            unusable[result.id].append(request(result.id))
            waiting[result.id] = (ask, _corrected(messages, correction(found)))

        if attempt == config.attempts:
            del waiting[result.id]
            chat.forget(unusable[result.id], found)  # so that the next start asks again
            on_result(JudgeFailure(ask.id, ask.model, found, attempt, chat.name))

    for attempt in range(1, config.attempts + 1):
        requests = [request(id) for id in waiting]
        if requests:
            chat.complete(requests, lambda result, attempt=attempt: take(result, attempt))


def likely_grades(
    asks: Sequence[Ask[G]],
    replies: Sequence[str],
    score: ScoreContinuations,
    judge: str,
    on_result: Callable[[G | JudgeFailure], None],
) -> None:
    """Take the allowed reply that a local model finds likeliest after each prompt.

    A small model in this role exercises the pipeline; its grades are no evidence.

    Args:
        replies: All allowed ones, alike but for the grade.
    """
    for start in range(0, len(asks), _BATCH):
        batch = asks[start : start + _BATCH]
        for ask, row in zip(batch, score([a.messages for a in batch], list(replies)), strict=True):
            on_result(_likeliest(ask, replies, row, judge))


def _likeliest(
    ask: Ask[G], replies: Sequence[str], row: np.ndarray, judge: str
) -> G | JudgeFailure:
    if not np.isfinite(row).all():
        return JudgeFailure(ask.id, ask.model, "the prompt leaves no room", 1, judge)
    # A reply that may not be given here (see `Ask.read`) gives way to the next likeliest.
    for index in np.argsort(-row, kind="stable"):
        found = ask.read(replies[index], judge)
        if not isinstance(found, str):
            return found
    return JudgeFailure(ask.id, ask.model, found, 1, judge)


def _corrected(messages: tuple[Message, ...], correction: Message) -> tuple[Message, ...]:
    """The same prompt, longer by what was wrong: a new request for a response store each time.

    The reply itself stays out: it may quote the text that is graded.
    """
    *before, asked = messages
    return (*before, {**asked, "content": f"{asked['content']}\n\n{correction['content']}"})


def replies_for(choices: Mapping[str, Sequence[str | bool]]) -> list[str]:
    """Replies that differ in their grades only, for `likely_grades`.

    Args:
        choices: Keys of the grades, each with its values.
    """
    empty = {"reason": "", "passage": ""}
    return [
        json.dumps(empty | dict(zip(choices, values, strict=True)))
        for values in itertools.product(*choices.values())
    ]
