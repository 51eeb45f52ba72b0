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
from dart_jax.generate.continuation import Continuation
from dart_jax.generate.decode import decode
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
        seed: Seed of the sampling noise, together with each request's id.
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

        A request that does not fit the context, or that has a JSON schema, is a failure.
        """
        results: dict[str, ChatReply | ChatFailure] = {}

        def settle(result: ChatReply | ChatFailure) -> None:
            results[result.id] = result
            if on_result is not None:
                on_result(result)

        # One call of the decoder has one temperature and one length.
        groups: dict[tuple[float, int], list[ChatRequest]] = defaultdict(list)
        for request in requests:
            if request.json_schema is not None:
                settle(ChatFailure(request.id, NO_SCHEMA))
            elif not is_writable(request.messages):
                settle(ChatFailure(request.id, BAD_PROMPT))
            else:
                groups[request.temperature, request.max_tokens].append(request)

        for (temperature, max_tokens), group in groups.items():
            self._complete_group(temperature, max_tokens, group, settle)

        return [results[request.id] for request in requests]

    def forget(self, requests: Sequence[ChatRequest], reason: str) -> None:
        """Do nothing: no answer is stored, and the same request gets the same answer again."""

    def score(
        self, prompts: Sequence[tuple[Message, ...]], continuations: Sequence[str]
    ) -> np.ndarray:
        """Log-probability (nats) of each continuation as the whole answer to each prompt.

        Returns:
            float64 [len(prompts), len(continuations)]; nan where the prompt leaves no room.
        """
        tokenizer = self._model.tokenizer
        prompt_tokens = [tokenizer.encode_prompt(messages) for messages in prompts]
        continuation_tokens = [tokenizer.encode_completion(text) for text in continuations]
        return continuation_log_probs(self._model, prompt_tokens, continuation_tokens, SCORE_BATCH)

    def _complete_group(
        self,
        temperature: float,
        max_tokens: int,
        requests: list[ChatRequest],
        settle: Callable[[ChatReply | ChatFailure], None],
    ) -> None:
        request_of = {request.id: request for request in requests}
        prompts = []
        for request in requests:
            tokens = self._model.tokenizer.encode_prompt(request.messages, row=request.id)
            prompts.append(Request(request.id, tuple(tokens)))

        prompt_lengths = {prompt.id: prompt.length for prompt in prompts}

        config = dataclasses.replace(
            self._decode, temperature=temperature, max_new_tokens=max_tokens
        )

        with progress(f"{self.name} writes", len(prompts)) as bar:

            def settle_batch(batch: list[Continuation]) -> None:
                for written in batch:
                    prompt_length = prompt_lengths[written.id]
                    settle(_reply(request_of[written.id], written, prompt_length))
                bar.update(len(batch))

            # Without adapters: the base model answers.
            decode(self._model, {}, prompts, config, seed=self._seed, on_finished=settle_batch)


def _reply(
    request: ChatRequest, written: Continuation, prompt_tokens: int
) -> ChatReply | ChatFailure:
    if written.problem:
        return ChatFailure(written.id, written.problem)
    is_cut = written.stop is StopReason.LENGTH
    return reply_of(request, written.text, is_cut, prompt_tokens, len(written.tokens))
