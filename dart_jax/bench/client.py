"""Throughput of the chat client, and its overhead per request, against a server with latency.

A loopback server in a process of its own answers each request after `--latency` seconds, so that
`--concurrency` requests in flight can at best end at the rate

    ideal = concurrency / latency

Measured one after the other, each with connections that are open: the client with its store (a
commit per answer), and as the peer the `openai` library alone with the same concurrency. Then both
with one request at a time, where nothing overlaps:

    overhead = median time of a request - latency    (library, HTTP and operating system included)
    own overhead = CPU time of a request, ours - the library's

CPU time is this process's, in all its threads, over the run at full concurrency.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.endpoint import Endpoint, resolve_endpoint
from dart_jax.chat.openai_client import OpenAIChat
from dart_jax.chat.protocol import ChatFailure, ChatRequest
from dart_jax.chat.store import ResponseStore
from dart_jax.machine import machine, versions

_PROMPT = "Say whether the two groups in this question should be treated alike, and why. " * 6
_ALONE = 40
"""Requests sent one at a time."""

Ask = Callable[[int, int], list[float]]
"""`ask(count, concurrency)`: have so many new requests answered; when each was (seconds)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m dart_jax.bench client`."""
    parser.add_argument("--requests", type=int, default=1600, help="requests (default 1600)")
    parser.add_argument("--concurrency", type=int, default=32, help="in flight (default 32)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds (default 0.2)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what was printed.

    Raises:
        RuntimeError: A request was not answered.
    """
    ideal = args.concurrency / args.latency
    with slow_server(args.latency) as address, tempfile.TemporaryDirectory() as folder:
        endpoint = resolve_endpoint("openai", address, None)
        with ResponseStore(Path(folder) / "store.sqlite") as store:
            ours = measure(ask_ours(endpoint, store), args)
        library = measure(ask_library(endpoint), args)
    for found in (ours, library):
        found["share_of_ideal"] = round(found["requests_per_second"] / ideal, 4)
    result = {
        "requests": args.requests,
        "concurrency": args.concurrency,
        "latency_seconds": args.latency,
        "ideal_requests_per_second": round(ideal, 2),
        "ours": ours,
        "openai_library_alone": library,
        "own_cpu_ms": round(ours["cpu_ms"] - library["cpu_ms"], 3),
        "own_overhead_ms": round(ours["overhead_ms"] - library["overhead_ms"], 3),
        "machine": machine(),
        "versions": versions(("openai", "httpx2", "aiolimiter")),
    }
    _show(result)
    return result


def measure(ask: Ask, args: argparse.Namespace) -> dict[str, float]:
    """Rate and CPU time at full concurrency, overhead with one request at a time."""
    ask(args.concurrency, args.concurrency)  # opens the connections
    started, cpu = time.perf_counter(), time.process_time()
    ask(args.requests, args.concurrency)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    ends = ask(_ALONE, 1)
    alone = statistics.median(end - begin for begin, end in pairwise(ends))
    return {
        "requests_per_second": round(args.requests / wall, 2),
        "cpu_ms": round(cpu / args.requests * 1e3, 3),
        "overhead_ms": round((alone - args.latency) * 1e3, 3),
    }


def ask_ours(endpoint: Endpoint, store: ResponseStore) -> Ask:
    """Our client, with a commit of each answer."""
    sent = 0

    def ask(count: int, concurrency: int) -> list[float]:
        nonlocal sent
        ends: list[float] = []
        requests = [_request(sent + number) for number in range(count)]
        sent += count
        client = clients.setdefault(
            concurrency,
            OpenAIChat(
                endpoint, "m", store, concurrency=concurrency, limits=LimitsConfig(max_retries=0)
            ),
        )
        answers = client.complete(requests, lambda _: ends.append(time.perf_counter()))
        failed = [answer.reason for answer in answers if isinstance(answer, ChatFailure)]
        if failed:
            raise RuntimeError(f"{len(failed)} requests failed, nothing was measured: {failed[0]}")
        return ends

    clients: dict[int, OpenAIChat] = {}
    return ask


def ask_library(endpoint: Endpoint) -> Ask:
    """The same requests through `openai` alone, in as many workers."""
    from openai import AsyncOpenAI

    runner = asyncio.Runner()
    client = AsyncOpenAI(api_key=endpoint.key, base_url=endpoint.base_url, max_retries=0)

    async def answer_all(count: int, concurrency: int) -> list[float]:
        waiting = iter(range(count))
        ends: list[float] = []

        async def work() -> None:
            for number in waiting:
                request = _request(number)
                await client.chat.completions.with_raw_response.create(
                    model="m",
                    messages=list(request.messages),
                    temperature=request.temperature,
                    max_tokens=request.max_tokens,
                )
                ends.append(time.perf_counter())

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return ends

    return lambda count, concurrency: runner.run(answer_all(count, concurrency))


def _request(number: int) -> ChatRequest:
    return ChatRequest(str(number), ({"role": "user", "content": f"{number}: {_PROMPT}"},))


@contextmanager
def slow_server(latency: float) -> Iterator[str]:
    """The address of a server that answers after so many seconds, while this lasts."""
    command = [sys.executable, "-m", "dart_jax.bench.slow_server", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        try:
            yield f"http://127.0.0.1:{int(it.stdout.readline())}/v1"
        finally:
            it.stdin.close()
            it.wait(10)


def _show(result: dict[str, Any]) -> None:
    for name in ("ours", "openai_library_alone"):
        found = result[name]
        print(
            f"{name}: {found['requests_per_second']} requests/s, "
            f"{found['share_of_ideal']:.1%} of {result['ideal_requests_per_second']}; "
            f"CPU {found['cpu_ms']} ms a request; overhead alone {found['overhead_ms']} ms"
        )
    print(
        f"our own part: CPU {result['own_cpu_ms']} ms, overhead {result['own_overhead_ms']} ms"
        " a request"
    )
