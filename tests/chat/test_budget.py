"""Budgets and rates: what is sent, where it stops, and how it goes on."""

import asyncio
import time

import pytest

from dart_jax.chat.budget import Budget, BudgetReached
from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.pace import Pace
from dart_jax.chat.protocol import ChatReply
from dart_jax.chat.store import ResponseStore
from dart_jax.chat.tokens import estimate_prompt, estimate_request, estimate_tokens
from dart_jax.chat.usage import Usage, read_usage, write_usage
from tests.chat.loopback import ask, make_chat, said

PRICES = {"price_prompt": 2.0, "price_completion": 10.0}
REQUESTS = [ask(str(i), str(i)) for i in range(12)]
COST = (7 * 2.0 + 3 * 10.0) / 1e6
"""Of one answer of the test server: 7 and 3 tokens."""


def spent(folder) -> Usage:
    return ResponseStore(folder / "store.sqlite").usage()["teach/teacher"]


def stop(server, folder, **limits) -> str:
    with make_chat(server, folder, **limits) as chat, pytest.raises(BudgetReached) as reached:
        chat.complete(REQUESTS)
    return str(reached.value)


def test_max_requests_stops_the_stage_and_a_larger_one_goes_on(server, tmp_path):
    message = stop(server, tmp_path, max_requests=5)
    assert len(server.bodies) == 5 == len(ResponseStore(tmp_path / "store.sqlite").keys())
    assert "teach/teacher: limits.max_requests 5" in message and "5 requests, 50 tokens" in message
    stop(server, tmp_path, max_requests=5)
    assert len(server.bodies) == 5, "the budget is the stage's, not each start's"
    with make_chat(server, tmp_path, max_requests=12) as chat:
        answers = chat.complete(REQUESTS)
    assert [answer.id for answer in answers] == [request.id for request in REQUESTS]
    assert len(server.bodies) == 12, "stored answers do not count again"
    assert spent(tmp_path) == Usage(12, 12, 0, 10, 84, 36, None)


def test_retries_count(server, tmp_path):
    server.behave = lambda number, body: (500, {})
    stop(server, tmp_path, max_requests=3, max_retries=9, concurrency=1)
    assert len(server.bodies) == 3 == spent(tmp_path).requests
    assert spent(tmp_path).answers == 0


def test_max_tokens_is_not_exceeded(server, tmp_path):
    bound = estimate_request(REQUESTS[0])
    message = stop(server, tmp_path, max_tokens=3 * 10 + bound)
    assert "limits.max_tokens" in message
    # An answer takes 10 tokens, and each is sent only if its bound fits: one by one at the end.
    assert len(server.bodies) == 4 and spent(tmp_path).tokens == 40


def test_max_cost_is_not_exceeded(server, tmp_path):
    bound = (estimate_prompt(REQUESTS[0].messages) * 2.0 + 64 * 10.0) / 1e6
    message = stop(server, tmp_path, max_cost_usd=2.5 * COST + bound, **PRICES)
    assert "limits.max_cost_usd" in message and "US dollars" in message
    assert len(server.bodies) == 3
    assert spent(tmp_path).cost_usd == pytest.approx(3 * COST)


def test_a_cost_budget_after_spending_at_unknown_prices_is_refused(server, tmp_path):
    make_chat(server, tmp_path).complete(REQUESTS[:1])
    with pytest.raises(ValueError, match="unknown prices"):
        make_chat(server, tmp_path, max_cost_usd=1.0, **PRICES)


def test_a_charged_failure_is_spent(server, tmp_path):
    server.behave = lambda number, body: (200, said(""))
    make_chat(server, tmp_path, **PRICES).complete(REQUESTS[:2])
    assert spent(tmp_path) == Usage(2, 0, 2, 0, 14, 6, pytest.approx(2 * COST))


def test_an_untold_use_is_estimated(server, tmp_path):
    server.behave = lambda number, body: (200, {**said("four words or so"), "usage": None})
    (reply,) = make_chat(server, tmp_path).complete(REQUESTS[:1])
    assert reply == ChatReply("0", "four words or so", 0, 0)
    found = spent(tmp_path)
    prompt = estimate_prompt(REQUESTS[0].messages)
    assert (found.prompt_tokens, found.completion_tokens) == (prompt, 6)


def test_waiting_for_room_goes_on_when_an_answer_took_less():
    async def run() -> list[str]:
        budget = Budget(LimitsConfig(max_tokens=100), "a", Usage())
        order = []

        async def one(name: str, used: int) -> None:
            async with budget.room(30, 30):
                order.append(name)
                await asyncio.sleep(0.01)
                budget.spent += Usage(prompt_tokens=used)

        await asyncio.gather(one("first", 10), one("second", 40))
        with pytest.raises(BudgetReached):
            await one("third", 0)
        return order

    assert asyncio.run(run()) == ["first", "second"]


def sent_at(pace: Pace, tokens: list[int]) -> list[float]:
    """Seconds after which requests of so many tokens may go, all waiting at once."""

    async def run() -> list[float]:
        started = time.monotonic()

        async def one(amount: int) -> float:
            await pace.wait(amount)
            return time.monotonic() - started

        return sorted(await asyncio.gather(*(one(amount) for amount in tokens)))

    return asyncio.run(run())


def test_requests_per_minute():
    times = sent_at(Pace(LimitsConfig(requests_per_minute=1220)), [1] * 30)
    # A second's burst of 20, then 20 a second: never more than 1220 in a minute.
    assert times[19] < 0.1 and 0.4 < times[-1] < 0.8


def test_slow_requests_have_even_distances():
    times = sent_at(Pace(LimitsConfig(requests_per_minute=240)), [1] * 7)
    assert times[0] < 0.1 and times[-1] > 0.5
    slow = Pace(LimitsConfig(requests_per_minute=60))
    assert sent_at(slow, [1, 1])[1] == pytest.approx(1.0, abs=0.2)


def test_tokens_per_minute_lets_a_request_larger_than_a_second_through():
    times = sent_at(Pace(LimitsConfig(tokens_per_minute=61_000)), [500, 1500])
    assert times[0] < 0.1
    assert times[1] == pytest.approx(1.0, abs=0.2)


def test_no_limit_is_no_wait():
    assert sent_at(Pace(LimitsConfig()), [10**9] * 3)[-1] < 0.1


def test_the_pace_holds_over_calls(server, tmp_path):
    with make_chat(server, tmp_path, requests_per_minute=240) as chat:
        started = time.monotonic()
        for request in REQUESTS[:8]:
            chat.complete([request])
    assert 0.9 < time.monotonic() - started < 2.0


def test_usage_adds_up_and_is_kept(tmp_path):
    one = Usage(1, 1, 0, 0, 10, 5, 0.5)
    assert one + one == Usage(2, 2, 0, 0, 20, 10, 1.0)
    unknown = one + Usage(cost_usd=None)
    assert unknown.cost_usd is None and unknown.tokens == 15
    path = tmp_path / "usage.json"
    assert read_usage(path) == {}
    write_usage(path, {"teach/teacher": one, "audit/judge": unknown})
    assert read_usage(path) == {"audit/judge": unknown, "teach/teacher": one}


def test_estimates_count_bytes():
    assert estimate_tokens("") == 0 and estimate_tokens("abcd") == 2 and estimate_tokens("語") == 1
    assert estimate_tokens("\ud800") == 1
