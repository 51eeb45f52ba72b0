"""A chat server on the loopback device that behaves as a test wants it to."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.endpoint import resolve_endpoint
from dart_jax.chat.openai_client import OpenAIChat
from dart_jax.chat.protocol import ChatRequest
from dart_jax.chat.store import ResponseStore

KEY = "sk-secret-0123456789"


class Server:
    """Answers by `behave(request number, JSON body) -> (status, JSON body)`; None cuts."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.headers: dict[str, str] = {}
        self.behave: Callable[[int, dict], tuple[int, object] | None] = lambda n, b: (
            200,
            said("ok"),
        )
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.answer(self, body)

            def log_message(self, *args) -> None:
                pass

        class Http(ThreadingHTTPServer):
            request_queue_size = 64  # with 5, many at once wait seconds for a connection
            daemon_threads = True

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def answer(self, handler: BaseHTTPRequestHandler, body: dict) -> None:
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.keys.append(handler.headers["Authorization"])
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        answer = self.behave(number, body)
        with self._lock:
            self.in_flight -= 1
        if answer is None:
            cut(handler)
            return
        status, content = answer
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server that answers until the block ends."""
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise a body, send the start of it, and reset the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def said(text: str | None) -> dict:
    return {
        "id": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def make_chat(server: Server, path, **changes) -> OpenAIChat:
    """A client with a store in the folder `path`; settings of `LimitsConfig` by name, too."""
    return make_chat_at(server.url, path, **changes)


def make_chat_at(url: str, path, **changes) -> OpenAIChat:
    settings = {"concurrency": 4, "timeout": 5.0, "account": "teach/teacher"}
    limits = {"max_retries": 1}
    for name, value in changes.items():
        (limits if name in LimitsConfig.__dataclass_fields__ else settings)[name] = value
    endpoint = resolve_endpoint("openai", url, "DART_TEST_KEY")
    store = ResponseStore(path / "store.sqlite")
    return OpenAIChat(endpoint, "m", store, limits=LimitsConfig(**limits), **settings)


def ask(text: str, id: str = "r", schema: dict | None = None) -> ChatRequest:
    return ChatRequest(id, ({"role": "user", "content": text},), 0.2, 64, schema)
