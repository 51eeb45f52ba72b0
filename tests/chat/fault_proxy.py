"""A proxy on the loopback device that passes chat requests on, and fails some of them.

    python -m tests.chat.fault_proxy --upstream http://127.0.0.1:8000 [--port P] [--log FILE]

Which fault a request meets depends on its messages and on how often they were sent, so that two
runs of the same requests meet the same faults.
"""

import argparse
import hashlib
import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

RATES = {
    "429": 0.05,
    "429 with Retry-After": 0.05,
    "500": 0.07,
    "timeout": 0.02,
    "cut": 0.05,
    "invalid JSON": 0.04,
    "wrong schema": 0.04,
    "wrong answer": 0.04,
    "empty": 0.04,
}
"""Shares of requests; the rest is passed on."""

SLOW_SECONDS = 3.0
"""Until a `timeout` is cut off; longer than the client waits."""


@dataclass(frozen=True)
class Seen:
    """One request: the digest of its messages, and what became of it (a fault or `passed`)."""

    item: str
    fate: str


class FaultProxy:
    """Passes on to `upstream` (http://host:port) what it does not fail.

    Attributes:
        seen: Every request, in the order in which they came.
        rates: May be changed at any time.
    """

    def __init__(self, upstream: str, rates: dict[str, float], port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.rates = dict(rates)
        self._upstream = urlsplit(upstream).netloc
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._passed = threading.Condition(self._lock)
        self._passed_on = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy.handle(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *args) -> None:
                pass

        class Http(ThreadingHTTPServer):
            request_queue_size = 64
            daemon_threads = True

            def handle_error(self, request, client_address) -> None:
                pass  # a client that was killed in the middle is what this is for

        self.http = Http(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def wait_for(self, passed: int) -> None:
        """Return when so many requests were passed on and answered."""
        with self._passed:
            assert self._passed.wait_for(lambda: self._passed_on >= passed, 120)

    def counts(self) -> Counter[str]:
        """Requests by fate."""
        return Counter(seen.fate for seen in self.seen)

    def handle(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        item = item_of(json.loads(body)["messages"])
        with self._lock:
            self._times[item] += 1
            fate = self._fate(f"{item} {self._times[item]}")
            self.seen.append(Seen(item, fate))
        self._answer(handler, body, fate)
        if fate == "passed":
            with self._passed:
                self._passed_on += 1
                self._passed.notify_all()

    def _fate(self, text: str) -> str:
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
        for fault, rate in self.rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return "passed"

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes, fate: str) -> None:
        if fate == "passed":
            send(handler, *self._pass_on(handler, body))
        elif fate == "timeout":
            time.sleep(SLOW_SECONDS)
            handler.close_connection = True
        elif fate == "cut":
            cut(handler)
        elif fate == "429 with Retry-After":
            send(handler, 429, b'{"error": {"message": "slow down"}}', {"Retry-After": "1"})
        else:
            send(handler, *ANSWERS[fate])

    def _pass_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=600)
        connection.request("POST", handler.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        status, data = response.status, response.read()
        connection.close()
        return status, data


def completion(text: str) -> bytes:
    """A chat completion with this content."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    return json.dumps({"choices": [{"index": 0, "message": message}], "usage": usage}).encode()


ANSWERS = {
    "429": (429, b'{"error": {"message": "slow down"}}'),
    "500": (500, b'{"error": {"message": "broken"}}'),
    "invalid JSON": (200, b'{"choices": [{"message": {"content": "half of'),
    "wrong schema": (200, b'{"object": "list", "data": [{"text": "yes"}]}'),
    "wrong answer": (200, completion('{"unexpected": [1, 2]}')),
    "empty": (200, completion("")),
}


def item_of(messages: list[dict]) -> str:
    """What names a request, over all its attempts."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:16]


def send(
    handler: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise a body, send the start of it, and reset the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="counts by fate, written at the end (Ctrl-C)")
    args = parser.parse_args()
    proxy = FaultProxy(args.upstream, RATES, args.port)
    print(proxy.url, flush=True)
    try:
        proxy.http.serve_forever()
    except KeyboardInterrupt:
        if args.log:
            args.log.write_text(json.dumps(proxy.counts(), indent=1) + "\n")


if __name__ == "__main__":
    main()
