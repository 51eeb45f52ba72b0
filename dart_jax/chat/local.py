"""A loaded JAX model as a chat model, and as a scorer of given answers."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from dart_jax.chat.protocol import (
    BAD_PROMPT,
    ChatFailure,
    ChatReply,
    ChatRequest,
    Message,
    is_writable,
)
from dart_jax.chat.replies import reply_of
from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import Continuation, decode
from dart_jax.generate.plan import Request
from dart_jax.generate.scoring import continuation_log_probs
from dart_jax.model.load import Model
from dart_jax.processes import progress
from dart_jax.records import StopReason

NO_SCHEMA = "a local model cannot promise a JSON schema; use its likelihoods instead"
# Rows scored together: each holds a prompt and all its continuations.
SCORE_BATCH = 4


class LocalChat:
    """The base model of `model` behind the `ChatModel` protocol.

    Args:
        decode: Nucleus and batch size; temperature and length come with each request.
        seed: Of the sampling noise, together with each request's id.
    """

    def __init__(self, model: Model, decode: DecodeConfig, seed: int):
        self.name = f"local:{model.name}"
        self._model = model
        self._decode = decode
        self._seed = seed

    def complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None = None,
    ) -> list[ChatReply | ChatFailure]:
        """Answer each request; decoding ends at the end of the turn or at the limit.

        A request that does not fit the context, or that wants a JSON schema, is a failure.
        """
        results: dict[str, ChatReply | ChatFailure] = {}

        def settle(result: ChatReply | ChatFailure) -> None:
            results[result.id] = result
            if on_result is not None:
                on_result(result)

        groups: dict[tuple[float, int], list[ChatRequest]] = defaultdict(list)
        for request in requests:
            if request.json_schema is not None:
                settle(ChatFailure(request.id, NO_SCHEMA))
            elif not is_writable(request.messages):
                settle(ChatFailure(request.id, BAD_PROMPT))
            else:
                groups[request.temperature, request.max_tokens].append(request)

        for (temperature, max_tokens), alike in groups.items():
            self._complete_group(temperature, max_tokens, alike, settle)

        return [results[request.id] for request in requests]

    def forget(self, requests: Sequence[ChatRequest], reason: str) -> None:
        """Do nothing: no answer is kept, and the same request has the same answer again."""

    def score(
        self, prompts: Sequence[tuple[Message, ...]], continuations: Sequence[str]
    ) -> np.ndarray:
        """Log-probability (nats) of each continuation as the whole answer to each prompt.

        Returns:
            float64 [len(prompts), len(continuations)]; nan where the prompt leaves no room.
        """
        tokenizer = self._model.tokenizer
        return continuation_log_probs(
            self._model,
            [tokenizer.encode_prompt(messages) for messages in prompts],
            [tokenizer.encode_completion(text) for text in continuations],
            SCORE_BATCH,
        )

    def _complete_group(
        self,
        temperature: float,
        max_tokens: int,
        requests: list[ChatRequest],
        settle: Callable[[ChatReply | ChatFailure], None],
    ) -> None:
        asked = {request.id: request for request in requests}
        encode = self._model.tokenizer.encode_prompt
        prompts = [
            Request(request.id, tuple(encode(request.messages, row=request.id)))
            for request in requests
        ]
        lengths = {prompt.id: prompt.length for prompt in prompts}
        config = dataclasses.replace(
            self._decode, temperature=temperature, max_new_tokens=max_tokens
        )

        with progress(f"{self.name} writes", len(prompts)) as bar:

            def keep(batch: list[Continuation]) -> None:
                for found in batch:
                    settle(_reply(asked[found.id], found, lengths[found.id]))
                bar.update(len(batch))

            decode(self._model, {}, prompts, config, seed=self._seed, on_finished=keep)


def _reply(
    request: ChatRequest, found: Continuation, prompt_tokens: int
) -> ChatReply | ChatFailure:
    if found.problem:
        return ChatFailure(found.id, found.problem)
    is_cut = found.stop is StopReason.LENGTH
    return reply_of(request, found.text, is_cut, prompt_tokens, len(found.tokens))
