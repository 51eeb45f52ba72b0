"""Budgets of a stage in requests, tokens and dollars, and the orderly stop when one is used up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.usage import Usage
from dart_jax.cli import Stopped


class BudgetReached(Stopped):
    """The next request would go beyond a budget; every answer so far is stored.

    Attributes:
        limit: Name of the budget, a field of `LimitsConfig`.
    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class Budget:
    """Spending of one account, with room held for its requests in flight.

    No budget is exceeded: a request in flight holds its upper bound in tokens, which its true use
    replaces when it ends. (The bound is an estimate where no tokenizer is at hand.)

    Args:
        account: `<stage>/<role>`, for messages.
        spent: Spending of earlier starts.

    Raises:
        ValueError: There is a budget in dollars, but earlier starts spent at unknown prices.
    """

    def __init__(self, limits: LimitsConfig, account: str, spent: Usage) -> None:
        if limits.max_cost_usd is not None and spent.cost_usd is None:
            raise ValueError(
                f"{account}: limits.max_cost_usd cannot be kept: this run has already spent"
                f" {spent.tokens:,} tokens at unknown prices; use limits.max_tokens, or another"
                " run.name"
            )

        self.spent = spent
        self._limits = limits
        self._account = account
        self._held = (0, 0)
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def room(self, prompt_tokens: int, completion_tokens: int) -> AsyncIterator[None]:
        """Hold room for one request, its retries included; waits while others hold too much.

        Raises:
            BudgetReached: There is no room, though nothing is in flight.
        """
        # Checked again after each wait: another request may have taken what became free.
        while name := self._lacking(prompt_tokens, completion_tokens):
            if self._held == (0, 0):
                raise self.reached(name)
            # Nothing is awaited between the check and the wait, so that no release is missed.
            self._freed.clear()
            await self._freed.wait()

        self._hold(prompt_tokens, completion_tokens)
        try:
            yield
        finally:
            # The true use is in `spent` by now: at no moment does the request count as nothing.
            self._hold(-prompt_tokens, -completion_tokens)
            self._freed.set()

    def count_request(self) -> None:
        """Count one HTTP request before it is sent. Raises BudgetReached if none may be sent."""
        limit = self._limits.max_requests
        if limit is not None and self.spent.requests >= limit:
            raise self.reached("max_requests")
        self.spent += Usage(requests=1)

    def _hold(self, prompt_tokens: int, completion_tokens: int) -> None:
        self._held = (self._held[0] + prompt_tokens, self._held[1] + completion_tokens)

    def _lacking(self, prompt_tokens: int, completion_tokens: int) -> str | None:
        """Name the budget that has no room for these tokens; None where all have."""
        prompt = self._held[0] + prompt_tokens
        completion = self._held[1] + completion_tokens
        limits, spent = self._limits, self.spent
        if limits.max_tokens is not None and spent.tokens + prompt + completion > limits.max_tokens:
            return "max_tokens"
        if limits.max_cost_usd is not None:
            # Neither is None: this budget demands prices, and the constructor checks `spent`.
            cost = spent.cost_usd + limits.cost_usd(prompt, completion)
            return "max_cost_usd" if cost > limits.max_cost_usd else None
        return None

    def reached(self, name: str) -> BudgetReached:
        """Make the error that says what was spent so far, and how to go on."""
        spent = self.spent
        dollars = "" if spent.cost_usd is None else f", {spent.cost_usd:.4f} US dollars"
        return BudgetReached(
            name,
            f"{self._account}: limits.{name} {getattr(self._limits, name):,} leaves no room for"
            f" another request ({spent.requests:,} requests, {spent.tokens:,} tokens{dollars}"
            " so far). Every answer is stored: raise the limit and start the same command again,"
            " and it goes on from here",
        )
