"""Chat models behind an OpenAI-compatible server: OpenAI, DeepSeek, vLLM, TGI and many others."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dart_jax.chat.budget import Budget, BudgetReached
from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.dialect import Dialect, ServerDialect
from dart_jax.chat.endpoint import Endpoint
from dart_jax.chat.openai_format import parse_body, read_response, read_usage
from dart_jax.chat.pace import Pace
from dart_jax.chat.protocol import BAD_PROMPT, ChatFailure, ChatReply, ChatRequest, is_writable
from dart_jax.chat.redact import Redactor
from dart_jax.chat.server_errors import address_of, describe
from dart_jax.chat.store import ResponseStore, request_key
from dart_jax.chat.tokens import estimate_request, estimate_tokens
from dart_jax.chat.usage import Usage
from dart_jax.extras import need

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

logger = logging.getLogger(__name__)

PACKAGES = ("openai", "aiolimiter")
_NO_LIMITS = LimitsConfig()
_MAY_ECHO_KEY = {401, 403}
_MOST_SAID = 300
_LOG_HEADERS = ("httpcore2", "openai")
"""Loggers that write response headers at DEBUG, where a server may echo the key."""


class ServiceRefused(RuntimeError):
    """The service accepts no request at all: the key is wrong, or no credit is left."""


@dataclass
class _Sending:
    """State of a request on its way, for the hooks around each of its HTTP requests.

    Attributes:
        tokens: Upper bound of prompt and new tokens.
        dialect: The dialect in which it was sent last.
        attempts: Number of HTTP requests sent for it.
        probing: Whether the server may still turn out to lack the dialect's JSON mode.
        server_errors: Number of 5xx answers in this dialect.
    """

    tokens: int
    dialect: Dialect
    attempts: int = 0
    probing: bool = False
    server_errors: int = 0

    def gives_up(self, status: int) -> bool:
        """Say whether to try another JSON mode instead of the same one again.

        501 is a refusal at once. 500 may be an accident, and is a refusal the second time.
        """
        return self.probing and (status == 501 or (status == 500 and self.server_errors > 1))


# The hooks get HTTP requests only; the context of a worker tells them which request is meant.
_sending: ContextVar[_Sending] = ContextVar("sending")


class OpenAIChat:
    """A `ChatModel` that asks a server: bounded, paced, within budgets, and never twice.

    Connection errors, timeouts, 408, 409, 429 and 5xx are tried again by the `openai` library,
    after what `Retry-After` says (more than two minutes end the request) or else after 0.5 s, 1 s,
    2 s .. 8 s, less up to a quarter at random. What still fails becomes a `ChatFailure`, counted in
    the store and asked again by the next run. No exception text, log line or stored byte holds the
    key.

    A request with a JSON schema is sent as `json_schema`. A server that rejects this (by 400 or
    422; until it has answered once, by 404, 500 and 501, too) is asked in `json_object` mode and
    then with the schema in the prompt alone, and a mode that works is remembered. In the same way
    a server that says so gets `max_completion_tokens` for `max_tokens`, or no temperature. Each of
    these is logged once, and the store keeps the settings that were not applied with the answer.
    The caller validates the answer in any case.

    One client holds its connections and its pace over all its calls, for one thread; close it.

    Args:
        endpoint: Address and key.
        model: The server's name for the model.
        store: Answers already paid for; a stored answer is returned without a request.
        concurrency: Maximal number of requests in flight.
        timeout: Seconds without a byte from the server before an attempt has failed.
        limits: Rates, retries and budgets.
        account: `<stage>/<role>`, under which the store counts what is spent.

    Raises:
        MissingExtra: The packages of a client are not installed.
        ValueError: A budget in dollars cannot be kept, see `Budget`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        store: ResponseStore,
        *,
        concurrency: int = 8,
        timeout: float = 60.0,
        limits: LimitsConfig = _NO_LIMITS,
        account: str = "",
    ) -> None:
        need("services", PACKAGES, f"model {model} behind a server")
        self.name = f"openai:{model}"
        self._endpoint = endpoint
        self._model = model
        self._store = store
        self._concurrency = concurrency
        self._timeout = timeout
        self._limits = limits
        self._account = account
        self._redactor = Redactor(endpoint.key if endpoint.secret else "")
        self._dialect = ServerDialect(endpoint.token_field)
        self._pace = Pace(limits)
        self._budget = Budget(limits, account, store.usage().get(account, Usage()))
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(concurrency)
        self._hits = 0
        self._runner = asyncio.Runner()

    def complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None = None,
    ) -> list[ChatReply | ChatFailure]:
        """Answer each request, in the order given; see `ChatModel.complete`.

        Raises:
            BudgetReached, ServiceRefused: Nothing further is sent. Requests in flight have ended;
                their answers are stored and went to `on_result`.
        """
        try:
            return self._runner.run(self._complete(requests, on_result))
        finally:
            hits, self._hits = self._hits, 0
            # Once for all hits: each charge waits for the disk.
            if hits:
                self._store.charge(self._account, Usage(stored=hits))

    def forget(self, requests: Sequence[ChatRequest], reason: str) -> None:
        """Turn the stored answers to these requests into failures; see `ChatModel.forget`."""
        discarded = []
        for request in requests:
            key = answer_key(self._endpoint.base_url, self._model, request)
            discarded.append(self._store.discard(key, reason))
        # All are given before the first is waited for, so that they share one commit.
        for commit in discarded:
            commit.result()

    def close(self) -> None:
        """End the connections. The store stays open, as it belongs to the caller."""
        # The first request makes it; there may have been none.
        if "_client" in self.__dict__:
            self._runner.run(self._client.close())
        self._runner.close()

    def __enter__(self) -> "OpenAIChat":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def _complete(
        self,
        requests: Sequence[ChatRequest],
        on_result: Callable[[ChatReply | ChatFailure], None] | None,
    ) -> list[ChatReply | ChatFailure]:
        results: dict[int, ChatReply | ChatFailure] = {}
        waiting = iter(enumerate(requests))

        async def work() -> None:
            for index, request in waiting:
                results[index] = await self._answer(request)
                if on_result is not None:
                    on_result(results[index])

        # Twice the concurrency: while some workers wait for the disk, others wait for the server.
        count = min(2 * self._concurrency, len(requests))
        workers = [asyncio.create_task(work()) for _ in range(count)]
        try:
            if workers:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for _ in waiting:
                pass  # after an error nothing new begins; requests in flight are paid for, and end
            ended = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            for worker in workers:
                worker.cancel()

        errors = [error for error in ended if error is not None]
        # Any other error tells more than a budget that ran out beside it.
        errors.sort(key=lambda error: isinstance(error, BudgetReached))
        if errors and isinstance(errors[0], BudgetReached):
            raise self._budget.reached(errors[0].limit)  # made anew, with what is spent by now
        if errors:
            raise errors[0]

        return [results[index] for index in range(len(requests))]

    async def _answer(self, request: ChatRequest) -> ChatReply | ChatFailure:
        if not is_writable(request.messages):
            return ChatFailure(request.id, BAD_PROMPT)

        key = answer_key(self._endpoint.base_url, self._model, request)
        async with self._asking[key]:  # equal requests wait for the answer to the first
            stored = self._store.get(key)
            if stored is not None:
                result = read_response(request, stored)
                if isinstance(result, ChatReply):
                    self._hits += 1
                    return result
                # Damaged, or no answer by a rule that is stricter than when it was stored.
                reason = f"the stored answer: {result.reason}"
                await asyncio.wrap_future(self._store.discard(key, reason))

            tokens = estimate_request(request)
            async with self._budget.room(tokens - request.max_tokens, request.max_tokens):
                return await self._ask(key, request, _Sending(tokens, self._dialect.now))

    async def _ask(
        self, key: str, request: ChatRequest, sending: _Sending
    ) -> ChatReply | ChatFailure:
        """Send, store and count; an answer is committed before it is returned."""
        from openai import APIError

        _sending.set(sending)
        response = None
        try:
            async with self._slots:
                body = self._redactor.answer(await self._send(request, sending))
        except APIError as error:
            result = ChatFailure(request.id, self._describe(error))
            refusal = _refusal(error)
        except BudgetReached:
            # What was sent before the budget ran out belongs to no answer and no failure.
            self._store.charge(self._account, Usage(requests=sending.attempts))
            raise
        else:
            response, refusal = parse_body(body), None
            result = read_response(request, response)

        await self._keep(key, request, result, response, sending)
        if refusal:
            raise ServiceRefused(f"{self.name} at {self._endpoint.base_url}: {refusal}")

        return result

    async def _keep(
        self,
        key: str,
        request: ChatRequest,
        result: ChatReply | ChatFailure,
        response: Any,
        sending: _Sending,
    ) -> None:
        """Store an answer or a failure, with what was spent on it, and wait for the commit."""
        replied = isinstance(result, ChatReply)
        estimate = (
            sending.tokens - request.max_tokens,
            estimate_tokens(result.text if replied else ""),
        )
        prompt, completion = read_usage(response) or (estimate if replied else (0, 0))
        paid = Usage(
            answers=int(replied),
            failures=int(not replied),
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=self._limits.cost_usd(prompt, completion),
        )

        self._budget.spent += paid  # its requests were counted as they were sent
        spent = paid + Usage(requests=sending.attempts)

        if replied:
            not_applied = sending.dialect.not_applied(request)
            committed = self._store.put(
                key,
                response | {"not_applied": not_applied} if not_applied else response,
                prompt_tokens=prompt,
                completion_tokens=completion,
                account=self._account,
                spent=spent,
            )
        else:
            committed = self._store.fail(
                key, result.reason, sending.attempts, account=self._account, spent=spent
            )

        await asyncio.wrap_future(committed)

    async def _send(self, request: ChatRequest, sending: _Sending) -> str:
        """Send in the first dialect that the server does not reject; return the response body."""
        from openai import APIStatusError

        # Read again: other requests may have learned a dialect while this one waited.
        first = sending.dialect = self._dialect.now
        while True:
            dialect = sending.dialect
            sending.server_errors = 0
            json_works = self._dialect.json_works(dialect)
            sending.probing = not json_works and dialect.next_json_mode(request) is not None

            try:
                response = await self._client.chat.completions.with_raw_response.create(
                    model=self._model, **dialect.arguments(request)
                )
            except APIStatusError as error:
                following = dialect.after(error, request, json_works)
                if following is None:
                    raise
                sending.dialect = following
            else:
                # Learned only now: a 400 may have other reasons, such as a prompt that is too long.
                change = self._dialect.learn(first, dialect, request, sending.server_errors)
                if change:
                    address = address_of(self._endpoint.base_url)
                    logger.warning("%s at %s: %s", self.name, address, change)
                return response.text

    @cached_property
    def _client(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        async def before_each(request: Any) -> None:
            sending = _sending.get()
            await self._pace.wait(sending.tokens)
            # After the wait, in which others may have used the budget up.
            self._budget.count_request()
            sending.attempts += 1

        async def after_each(response: Any) -> None:
            sending = _sending.get()
            sending.server_errors += response.status_code >= 500
            if sending.gives_up(response.status_code):
                response.headers["x-should-retry"] = "false"  # which the library obeys

        for name in _LOG_HEADERS:
            logging.getLogger(name).setLevel(logging.INFO)

        return AsyncOpenAI(
            api_key=self._endpoint.key,
            base_url=self._endpoint.base_url,
            timeout=self._timeout,
            max_retries=self._limits.max_retries,
            http_client=DefaultAsyncHttpxClient(
                event_hooks={"request": [before_each], "response": [after_each]}
            ),
        )

    def _describe(self, error: "APIError") -> str:
        """Say what went wrong and where, with the server's message unless it may echo the key."""
        status = getattr(error, "status_code", None)
        if status in _MAY_ECHO_KEY:
            return f"{type(error).__name__} {status}: the server refused the API key or its rights"
        description = describe(error, self._endpoint.base_url, self._timeout)
        return self._redactor.message(description)[:_MOST_SAID]


def answer_key(base_url: str, model: str, request: ChatRequest) -> str:
    """Compute the store's key of a request."""
    parameters = {"temperature": request.temperature, "max_tokens": request.max_tokens}
    if request.top_logprobs:  # left out at 0, as in the keys of answers that are stored already
        parameters["top_logprobs"] = request.top_logprobs
    return request_key(
        endpoint=base_url,
        model=model,
        messages=request.messages,
        parameters=parameters,
        json_schema=request.json_schema,
    )


def _refusal(error: "APIError") -> str | None:
    """Say why every further request would fail as well; None where it would not."""
    # OpenAI gives it the status 429, as if a pause could help.
    if error.code == "insufficient_quota" or getattr(error, "status_code", None) == 402:
        return "no credit left; pay, then start the same command again"
    if getattr(error, "status_code", None) == 401:
        return "the API key was refused; check the environment variable that api_key_env names"
    return None
