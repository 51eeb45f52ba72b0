"""A guard model behind an OpenAI-compatible service, as a scorer.

The service is sent the question as a user's message and the answer as the assistant's; its own chat
template makes the guard's prompt of them. `guard_formats` says how its reply is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from dart_jax.audit.config import GuardConfig
from dart_jax.audit.guard_formats import read_reply
from dart_jax.audit.scorer_protocol import Scored, all_scored
from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatRequest
from dart_jax.records import digest

OpenChat = Callable[[], AbstractContextManager[ChatModel]]

# Part of the version: another way to read the same replies would give other scores.
_READING = "1"


class GuardServiceScorer:
    """An `AnswerScorer` that asks a service; the value is how harmful the guard finds an answer.

    Args:
        config: `audit.guard`.
        open_chat: Opens the service; None where nothing is going to be scored.

    Raises:
        ValueError: The settings do not say which guard answers.
    """

    reads_question = True
    takes_all = True

    def __init__(self, config: GuardConfig, open_chat: OpenChat | None = None) -> None:
        if config.format is None or config.model is None:
            raise ValueError(
                "a guard behind a service: set audit.guard.format and audit.guard.model, such as "
                "qwen3guard and Qwen/Qwen3Guard-Gen-4B"
            )
        self.name = f"{config.format}:{config.model}"
        self.version = digest([config.identity(), _READING])[:16]
        self._config, self._open_chat = config, open_chat

    def score(self, texts: list[str], questions: Sequence[str]) -> list[Scored]:
        """Score answers as `AnswerScorer` does.

        Raises:
            ScoringFailed: Some replies are missing or not in the guard's format.
        """
        return all_scored(self.name, self.results(texts, questions))

    def results(self, texts: Sequence[str], questions: Sequence[str]) -> list[Scored | str]:
        """Score answers; a string says why there is no score.

        Replies are kept in the run's store, but for those that are not in the guard's format.
        """
        requests = []
        for number, (question, text) in enumerate(zip(questions, texts, strict=True)):
            requests.append(guard_request(str(number), question, text, self._config))
        # In a thread of its own: where a repair is compared while a teacher is being asked, this
        # one runs the teacher's event loop, and a second cannot run in it.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(self._ask, requests).result()

    def _ask(self, requests: Sequence[ChatRequest]) -> list[Scored | str]:
        found: list[Scored | str] = []
        with self._open_chat() as chat:
            for request, reply in zip(requests, chat.complete(requests), strict=True):
                if isinstance(reply, ChatFailure):
                    found.append(reply.reason)
                    continue
                found.append(read_reply(self._config.format, reply.text, reply.logprobs))
                if isinstance(found[-1], str):
                    chat.forget([request], found[-1])
        return found


def guard_request(id: str, question: str, answer: str, config: GuardConfig) -> ChatRequest:
    """Ask a guard about an answer to a question."""
    return ChatRequest(
        id,
        ({"role": "user", "content": question}, {"role": "assistant", "content": answer}),
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        # ShieldGemma goes on to explain itself; of the others a cut reply does not match.
        may_be_cut=config.format == "shieldgemma",
        top_logprobs=config.top_logprobs,
    )
