"""Limit requests and tokens per minute by leaky buckets."""

from typing import TYPE_CHECKING

from dart_jax.chat.config import LimitsConfig

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class Pace:
    """Wait before each request, so that no minute sees more than the limits.

    A bucket that holds a whole minute's allowance would let two of them through in one minute.
    These hold the allowance of one second, and refill at limit / 61 a second.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self._requests = _bucket(limits.requests_per_minute)
        self._tokens = _bucket(limits.tokens_per_minute)

    async def wait(self, tokens: int) -> None:
        """Wait until a request of so many tokens may be sent."""
        if self._tokens is not None:
            # A request may need more than the bucket holds: it then takes several fillings.
            while tokens > 0:
                filling = min(tokens, self._tokens.max_rate)
                await self._tokens.acquire(filling)
                tokens -= filling
        if self._requests is not None:
            await self._requests.acquire()


def _bucket(per_minute: int | None) -> "AsyncLimiter | None":
    from aiolimiter import AsyncLimiter

    if per_minute is None:
        return None
    # The allowance of one second would be less than one request, which the bucket has to hold.
    if per_minute <= 61:
        return AsyncLimiter(1, 60 / per_minute)
    # In a minute a full bucket lets its content and 60 refills through: 61 times a second's part.
    return AsyncLimiter(per_minute / 61, 1)
