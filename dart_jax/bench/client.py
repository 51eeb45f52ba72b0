"""Throughput of the chat client, and its overhead per request, against a server with latency.

A loopback server in a process of its own answers each request after `--latency` seconds. The
client with its store (a commit per answer), and then as the peer the `openai` library alone, are
measured with connections that are open: at full concurrency, and one request at a time. README.md
defines the numbers.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dart_jax.bench.options import ClientOptions
from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.endpoint import Endpoint, resolve_endpoint
from dart_jax.chat.openai_client import OpenAIChat
from dart_jax.chat.protocol import ChatFailure, ChatRequest
from dart_jax.chat.store import ResponseStore
from dart_jax.machine import machine, versions

_PROMPT = "Say whether the two groups in this question should be treated alike, and why. " * 6
_ANSWER = "Both groups have the same claim here. Nothing in the question speaks for a difference."
_ALONE = 40
"""Requests sent one at a time."""

Ask = Callable[[int, int], list[float]]
"""`ask(number, concurrency)`: have so many new requests answered; when each was (seconds)."""


def run(options: ClientOptions) -> dict[str, Any]:
    """Measure and print; what was printed. Raises RuntimeError where a request was not answered."""
    ideal = options.concurrency / options.latency
    with slow_server(options.latency) as address, tempfile.TemporaryDirectory() as folder:
        endpoint = resolve_endpoint("openai", address, None)
        with ResponseStore(Path(folder) / "store.sqlite") as store:
            ours = measure(ask_ours(endpoint, store), options)
        library = measure(ask_library(endpoint), options)
    for name, found in (("ours", ours), ("openai alone", library)):
        found["share_of_ideal"] = round(found["requests_per_second"] / ideal, 4)
        print(
            f"{name}: {found['requests_per_second']} requests/s, "
            f"{found['share_of_ideal']:.1%} of {ideal:.1f}; "
            f"CPU {found['cpu_ms']} ms a request; overhead alone {found['overhead_ms']} ms"
        )
    return {
        "requests": options.requests,
        "concurrency": options.concurrency,
        "latency_seconds": options.latency,
        "ideal_requests_per_second": round(ideal, 2),
        "ours": ours,
        "openai_library_alone": library,
        "own_cpu_ms": round(ours["cpu_ms"] - library["cpu_ms"], 3),
        "own_overhead_ms": round(ours["overhead_ms"] - library["overhead_ms"], 3),
        "machine": machine(),
        "versions": versions(("openai", "httpx2", "aiolimiter")),
    }


def measure(ask: Ask, options: ClientOptions) -> dict[str, float]:
    """Rate and CPU time at full concurrency, overhead with one request at a time."""
    ask(options.concurrency, options.concurrency)  # opens the connections
    started, cpu = time.perf_counter(), time.process_time()
    ask(options.requests, options.concurrency)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    ends = ask(_ALONE, 1)
    alone = statistics.median(end - begin for begin, end in pairwise(ends))
    return {
        "requests_per_second": round(options.requests / wall, 2),
        "cpu_ms": round(cpu / options.requests * 1e3, 3),
        "overhead_ms": round((alone - options.latency) * 1e3, 3),
    }


def ask_ours(endpoint: Endpoint, store: ResponseStore) -> Ask:
    """Our client, with a commit of each answer; one client for each concurrency."""
    numbers = count()
    make_client = cache(
        lambda concurrency: OpenAIChat(
            endpoint, "m", store, concurrency=concurrency, limits=LimitsConfig(max_retries=0)
        )
    )

    def ask(number: int, concurrency: int) -> list[float]:
        ends: list[float] = []
        requests = [_request(next(numbers)) for _ in range(number)]
        client = make_client(concurrency)
        answers = client.complete(requests, lambda _: ends.append(time.perf_counter()))
        failed = [answer.reason for answer in answers if isinstance(answer, ChatFailure)]
        if failed:
            raise RuntimeError(f"{len(failed)} requests failed, nothing was measured: {failed[0]}")
        return ends

    return ask


def ask_library(endpoint: Endpoint) -> Ask:
    """The same requests through `openai` alone, in as many workers."""
    from openai import AsyncOpenAI

    runner = asyncio.Runner()
    client = AsyncOpenAI(api_key=endpoint.key, base_url=endpoint.base_url, max_retries=0)

    async def answer_all(number: int, concurrency: int) -> list[float]:
        waiting = iter(range(number))
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

    return lambda number, concurrency: runner.run(answer_all(number, concurrency))


def _request(number: int) -> ChatRequest:
    return ChatRequest(str(number), ({"role": "user", "content": f"{number}: {_PROMPT}"},))


@contextmanager
def slow_server(latency: float) -> Iterator[str]:
    """The address of a server that answers after so many seconds, while this lasts."""
    spawn = multiprocessing.get_context("spawn")
    near_end, far_end = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(latency, far_end), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{near_end.recv()}/v1"
    finally:
        process.kill()
        process.join()


def _serve(latency: float, pipe: Connection) -> None:
    """The server's process: send the port, then answer until it is killed."""
    message = {"role": "assistant", "content": _ANSWER}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    completion = {"id": "0", "object": "chat.completion", "created": 0, "model": "m"}
    body = json.dumps({**completion, "choices": [choice], "usage": usage}).encode()
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open

        def do_POST(self) -> None:
            due = time.monotonic() + latency
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(max(due - time.monotonic(), 0))
            # In one piece, because a second one would wait for the first to be acknowledged.
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + head + body)

    class Server(ThreadingHTTPServer):
        request_queue_size = 1024  # all connections open at once; five are the default

    with Server(("127.0.0.1", 0), Answering) as server:
        pipe.send(server.server_port)
        server.serve_forever()
