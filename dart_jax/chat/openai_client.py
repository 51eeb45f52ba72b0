"""Chat models behind an OpenAI-compatible server: OpenAI, vLLM, llama.cpp and many others."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dart_jax.chat.openai_format import JSON_MODES, parse_body, read_response, request_arguments
from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
from dart_jax.chat.store import ResponseStore, request_key

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

logger = logging.getLogger(__name__)

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_REJECTED_PARAMETER = {400, 422}
_MAY_ECHO_KEY = {401, 403}


class MissingKey(RuntimeError):
    """The environment variable that should hold the API key is unset or unusable."""


class OpenAIChat:
    """A `ChatModel` that asks a server, with bounded concurrency, retries and a response store.

    Connection errors, timeouts, 408, 409, 429 and 5xx are tried again with growing pauses by the
    `openai` library, which heeds `Retry-After`. What still fails becomes a `ChatFailure`; no
    exception text, log line or stored byte holds the key.

    A request with a JSON schema is sent as `json_schema`. Servers differ in what they support: one
    that rejects this (400 or 422) is asked in `json_object` mode and then with the schema in the
    prompt alone, and a mode that works is remembered. The caller validates the answer in any case.

    Args:
        model: The server's name for the model.
        base_url: Address such as `http://127.0.0.1:8000/v1`; None: the library's own default.
        api_key_env: Environment variable with the key. A loopback address needs none.
        concurrency: Most requests in flight.
        timeout: Seconds without a byte from the server before an attempt has failed.
        store: Answers already paid for; a stored answer is returned without a request.
        max_retries: Further attempts after a failed one.

    Raises:
        MissingKey: the variable is not set, or holds what no HTTP header can carry.
        ValueError: `base_url` is no http(s) address.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        api_key_env: str,
        concurrency: int,
        timeout: float,
        store: ResponseStore,
        *,
        max_retries: int = 4,
    ) -> None:
        self.name = f"openai:{model}"
        self._model = model
        self._base_url = base_url
        self._key = _read_key(api_key_env, base_url)
        self._concurrency = concurrency
        self._timeout = timeout
        self._max_retries = max_retries
        self._store = store
        self._json_mode = 0

    def complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None = None,
    ) -> list[ChatReply | ChatFailure]:
        """Answer each request, in the order given; see `ChatModel.complete`."""
        return asyncio.run(self._complete(requests, on_result))

    async def _complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None,
    ) -> list[ChatReply | ChatFailure]:
        from openai import AsyncOpenAI

        slots = asyncio.Semaphore(self._concurrency)

        async def answer(request: ChatRequest) -> ChatReply | ChatFailure:
            async with slots:
                result = await self._answer(client, request)
            if on_result is not None:
                on_result(result)
            return result

        # The client belongs to the event loop of this call: connections cannot outlive it.
        async with AsyncOpenAI(
            api_key=self._key,
            base_url=self._base_url,
            timeout=self._timeout,
            max_retries=self._max_retries,
        ) as client:
            return await asyncio.gather(*(answer(request) for request in requests))

    async def _answer(self, client: "AsyncOpenAI", request: ChatRequest) -> ChatReply | ChatFailure:
        from openai import APIError

        key = request_key(
            endpoint=str(client.base_url),
            model=self._model,
            messages=request.messages,
            parameters={"temperature": request.temperature, "max_tokens": request.max_tokens},
            json_schema=request.json_schema,
        )
        stored = self._store.get(key)
        if stored is not None:
            return read_response(request.id, stored)
        try:
            body = await self._send(client, request)
        except APIError as error:
            return ChatFailure(request.id, self._describe(error))
        result = parse_body(request.id, body)
        if isinstance(result, ChatReply):
            self._store.put(
                key,
                json.loads(body),
                prompt_tokens=result.prompt_tokens,
                completion_tokens=result.completion_tokens,
            )
        return result

    async def _send(self, client: "AsyncOpenAI", request: ChatRequest) -> str:
        """The response body; a request with a schema goes through the JSON modes."""
        from openai import APIStatusError

        if request.json_schema is None:
            return await self._post(client, request, "plain")
        first = self._json_mode
        for mode in range(first, len(JSON_MODES)):
            try:
                body = await self._post(client, request, JSON_MODES[mode])
            except APIStatusError as error:
                # Only a rejected parameter leads on; a mode is dropped once a later one works,
                # for a 400 may have other reasons, such as a prompt that is too long.
                if error.status_code not in _REJECTED_PARAMETER or mode == len(JSON_MODES) - 1:
                    raise
            else:
                self._remember_mode(mode)
                return body
        raise AssertionError("the last JSON mode returns or raises")

    def _remember_mode(self, mode: int) -> None:
        if mode > self._json_mode:
            logger.info("%s rejects %s; using %s", self.name, JSON_MODES[0], JSON_MODES[mode])
            self._json_mode = mode

    async def _post(self, client: "AsyncOpenAI", request: ChatRequest, mode: str) -> str:
        response = await client.chat.completions.with_raw_response.create(
            model=self._model,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            **request_arguments(request, mode),
        )
        return response.text

    def _describe(self, error: "APIError") -> str:
        """Class, status and, unless it may echo credentials, the server's message."""
        status = getattr(error, "status_code", None)
        described = type(error).__name__ + ("" if status is None else f" {status}")
        if status in _MAY_ECHO_KEY:
            return f"{described}: the server refused the API key or its rights"
        return f"{described}: {error.message.replace(self._key, '[key]')[:200]}"


def _read_key(variable: str, base_url: str | None) -> str:
    address = urlsplit(base_url or "")
    if base_url is not None and (address.scheme not in {"http", "https"} or not address.hostname):
        raise ValueError(
            f"base_url {base_url!r} is no http(s) address such as http://127.0.0.1:8000/v1"
        )
    key = os.environ.get(variable, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise MissingKey(f"environment variable {variable} holds characters that no key can have")
    if not key and address.hostname not in _LOOPBACK:
        raise MissingKey(
            f"environment variable {variable} is not set: put the API key for"
            f" {address.hostname or 'the OpenAI API'} there, or choose another provider"
        )
    return key or "no-key-needed"
