"""Have a judge grade single answers: each gets a validated grade or a failure.

As with pairs, a reply without the required structure is never read as a grade: the judge is asked
again and told what was wrong, and after the last attempt the answer is a `JudgeFailure`.
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
"""Number of answers that a local model scores at once."""


@dataclass(frozen=True)
class Ask(Generic[G]):
    """One answer to be graded.

    Attributes:
        id, model: Id of the prompt that was answered, and the model that answered it.
        messages: The judge's prompt.
        read: Takes a reply and the judge's name, and returns the signed grade; or what is wrong
            with the reply, in one line and our own words.
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
    """Grade answers by a service, with up to `config.attempts` requests for each answer.

    Args:
        schema: JSON schema of the reply.
        correction: Makes the message that names the problem of a reply.
        on_result: Called with each grade or failure as soon as it is decided, in any order.
    """
    # Several models answer the same prompt, so that its id alone names no answer.
    waiting = {f"{ask.model} {ask.id}": (ask, ask.messages) for ask in asks}
    unusable: defaultdict[str, list[ChatRequest]] = defaultdict(list)

    def request(id: str) -> ChatRequest:
        _, messages = waiting[id]
        return ChatRequest(id, messages, config.temperature, config.max_tokens, schema)

    def take(result: ChatReply | ChatFailure, attempt: int) -> None:
        ask, messages = waiting[result.id]
        replied = isinstance(result, ChatReply)
        grade_or_problem = ask.read(result.text, chat.name) if replied else result.reason

        if not isinstance(grade_or_problem, str):
            del waiting[result.id]
            on_result(grade_or_problem)
            return

        problem = grade_or_problem

        if replied:
            # Before the prompt is corrected: what is forgotten later is the request as it was sent.
            unusable[result.id].append(request(result.id))
            waiting[result.id] = (ask, _corrected(messages, correction(problem)))

        if attempt == config.attempts:
            del waiting[result.id]
            chat.forget(unusable[result.id], problem)  # so that the next start asks again
            on_result(JudgeFailure(ask.id, ask.model, problem, attempt, chat.name))

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
    """Grade answers by the allowed reply that a local model finds likeliest after each prompt.

    A small model in this role exercises the pipeline; its grades are no evidence.

    Args:
        replies: All allowed replies, which differ in the grade only.
    """
    for start in range(0, len(asks), _BATCH):
        batch = asks[start : start + _BATCH]
        scores = score([ask.messages for ask in batch], list(replies))
        for ask, row in zip(batch, scores, strict=True):
            on_result(_likeliest(ask, replies, row, judge))


def _likeliest(
    ask: Ask[G], replies: Sequence[str], row: np.ndarray, judge: str
) -> G | JudgeFailure:
    if not np.isfinite(row).all():
        return JudgeFailure(ask.id, ask.model, "the prompt leaves no room", 1, judge)
    # A reply that may not be given here (see `Ask.read`) gives way to the next likeliest.
    # Stable: of equally likely replies the first one is taken on every machine.
    for index in np.argsort(-row, kind="stable"):
        grade_or_problem = ask.read(replies[index], judge)
        if not isinstance(grade_or_problem, str):
            return grade_or_problem
    # No reply may be given here: the problem of the last one stands for all.
    return JudgeFailure(ask.id, ask.model, grade_or_problem, 1, judge)


def _corrected(messages: tuple[Message, ...], correction: Message) -> tuple[Message, ...]:
    """Append a correction to a prompt, which makes it a new request for a response store.

    The reply itself stays out: it may quote the text that is graded.
    """
    *earlier, last = messages
    return (*earlier, {**last, "content": f"{last['content']}\n\n{correction['content']}"})


def replies_for(choices: Mapping[str, Sequence[str | bool]]) -> list[str]:
    """List all replies that differ in their grades only, for `likely_grades`.

    Args:
        choices: The keys of a grade, each with its allowed values.
    """
    # In the order that the form asks for; a likelihood explains and quotes nothing.
    empty = {"reason": "", "passage": ""}
    return [
        json.dumps(empty | dict(zip(choices, values, strict=True)))
        for values in itertools.product(*choices.values())
    ]
