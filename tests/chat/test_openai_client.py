"""The OpenAI client against a real server on the loopback device."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dart_jax.chat.openai_client import MissingKey, OpenAIChat
from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
from dart_jax.chat.store import ResponseStore

KEY = "sk-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"drift": {"type": "boolean"}}, "required": ["drift"]}


class Server:
    """Answers by `behave(request number, JSON body) -> (status, JSON body)`; None cuts."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
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

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
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
        handler.end_headers()
        handler.wfile.write(data)


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


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DART_TEST_KEY", KEY)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def make_chat(server: Server, path, **changes) -> OpenAIChat:
    settings = {"concurrency": 4, "timeout": 5.0, "max_retries": 1} | changes
    store = ResponseStore(path / "store.sqlite")
    return OpenAIChat("m", server.url, "DART_TEST_KEY", store=store, **settings)


def ask(text: str, id: str = "r", schema: dict | None = None) -> ChatRequest:
    return ChatRequest(id, ({"role": "user", "content": text},), 0.2, 64, schema)


def test_answers_come_in_order_and_each_is_announced(server, tmp_path):
    def behave(number, body):
        text = body["messages"][0]["content"]
        time.sleep(0.15 if text == "0" else 0.0)
        return 200, said(f"echo {text}")

    server.behave = behave
    seen = []
    chat = make_chat(server, tmp_path)
    answers = chat.complete([ask(str(i), f"r{i}") for i in range(3)], seen.append)
    assert answers == [ChatReply(f"r{i}", f"echo {i}", 7, 3) for i in range(3)]
    assert sorted(answer.id for answer in seen) == ["r0", "r1", "r2"]
    assert seen[-1].id == "r0"
    assert server.keys == [f"Bearer {KEY}"] * 3
    assert {k: server.bodies[0][k] for k in ("model", "temperature", "max_tokens")} == {
        "model": "m",
        "temperature": 0.2,
        "max_tokens": 64,
    }


def test_concurrency_is_bounded(server, tmp_path):
    def behave(number, body):
        time.sleep(0.05)
        return 200, said("ok")

    server.behave = behave
    make_chat(server, tmp_path, concurrency=2).complete([ask(str(i), str(i)) for i in range(6)])
    assert server.most_in_flight == 2


def test_a_second_run_sends_nothing(server, tmp_path):
    first = make_chat(server, tmp_path).complete([ask("a"), ask("b")])
    sent = len(server.bodies)
    seen = []
    second = make_chat(server, tmp_path).complete([ask("a"), ask("b")], seen.append)
    assert second == first == seen
    assert sent == len(server.bodies) == 2
    assert ResponseStore(tmp_path / "store.sqlite").token_use() == (14, 6)


def test_the_answer_is_stored_before_it_is_used(server, tmp_path):
    def crash(answer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_chat(server, tmp_path).complete([ask("a")], crash)
    make_chat(server, tmp_path).complete([ask("a")])
    assert len(server.bodies) == 1


def test_429_is_tried_again(server, tmp_path):
    error = {"error": {"message": "slow down"}}
    server.behave = lambda number, body: (429, error) if number == 0 else (200, said("ok"))
    assert make_chat(server, tmp_path).complete([ask("a")]) == [ChatReply("r", "ok", 7, 3)]
    assert len(server.bodies) == 2


def failing(kind: str) -> Callable:
    def timeout(number, body):
        time.sleep(0.6)
        return 200, said("late")

    return {
        "500": lambda n, b: (500, {"error": {"message": f"broken, key {KEY}"}}),
        "401": lambda n, b: (401, {"error": {"message": f"bad key {KEY[:12]}***"}}),
        "cut": lambda n, b: None,
        "timeout": timeout,
        "empty": lambda n, b: (200, said("  \n")),
        "null": lambda n, b: (200, said(None)),
        "no choices": lambda n, b: (200, {"choices": []}),
        "not JSON": lambda n, b: (200, b"<html>gateway</html>"),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "reason", "requests"),
    [
        ("500", "InternalServerError 500", 2),
        ("401", "AuthenticationError 401", 1),
        ("cut", "APIConnectionError", 2),
        ("timeout", "APITimeoutError", 2),
        ("empty", "empty completion", 1),
        ("null", "empty completion", 1),
        ("no choices", "not a chat completion", 1),
        ("not JSON", "not JSON", 1),
    ],
)
def test_a_failure_is_a_value_and_is_never_stored(server, tmp_path, kind, reason, requests):
    server.behave = failing(kind)
    chat = make_chat(server, tmp_path, timeout=0.25)
    (failure,) = chat.complete([ask("a")])
    assert isinstance(failure, ChatFailure)
    assert reason in failure.reason
    assert len(server.bodies) == requests
    assert ResponseStore(tmp_path / "store.sqlite").token_use() == (0, 0)
    server.behave = lambda number, body: (200, said("now"))
    assert chat.complete([ask("a")]) == [ChatReply("r", "now", 7, 3)]


def test_one_failure_leaves_the_others_alone(server, tmp_path):
    def behave(number, body):
        bad = body["messages"][0]["content"] == "bad"
        return (404, {"error": {"message": "no"}}) if bad else (200, said("ok"))

    server.behave = behave
    kinds = [
        type(a) for a in make_chat(server, tmp_path).complete([ask("a"), ask("bad"), ask("b")])
    ]
    assert kinds == [ChatReply, ChatFailure, ChatReply]


def test_json_schema_is_sent_where_the_server_takes_it(server, tmp_path):
    make_chat(server, tmp_path).complete([ask("a", schema=SCHEMA)])
    sent = server.bodies[0]["response_format"]
    assert (sent["type"], sent["json_schema"]["schema"]) == ("json_schema", SCHEMA)
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("supported", ["json_object", "plain"])
def test_a_rejected_json_mode_is_replaced_and_remembered(server, tmp_path, supported, caplog):
    rejected = ["json_schema", "json_object"][: 1 if supported == "json_object" else 2]

    def behave(number, body):
        mode = body.get("response_format", {"type": "plain"})["type"]
        bad = (400, {"error": {"message": f"unknown response_format {mode}"}})
        return bad if mode in rejected else (200, said('{"drift": true}'))

    server.behave = behave
    chat = make_chat(server, tmp_path)
    with caplog.at_level("INFO", logger="dart_jax"):
        assert isinstance(chat.complete([ask("a", schema=SCHEMA)])[0], ChatReply)
    assert len(server.bodies) == 1 + len(rejected)
    assert supported in caplog.text
    chat.complete([ask("b", schema=SCHEMA)])
    assert len(server.bodies) == 2 + len(rejected)
    prompt = server.bodies[-1]["messages"][-1]["content"]
    assert prompt.startswith("b\n") and json.dumps(SCHEMA) in prompt


def test_a_request_that_is_bad_in_every_mode_changes_no_mode(server, tmp_path):
    def behave(number, body):
        long = body["messages"][0]["content"].startswith("long")
        return (400, {"error": {"message": "too long"}}) if long else (200, said("{}"))

    server.behave = behave
    chat = make_chat(server, tmp_path)
    (failure,) = chat.complete([ask("long", schema=SCHEMA)])
    assert "BadRequestError 400" in failure.reason and "too long" in failure.reason
    chat.complete([ask("short", schema=SCHEMA)])
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


def test_the_key_shows_up_nowhere(server, tmp_path, caplog):
    server.behave = lambda n, b: (200, said("ok")) if n == 0 else failing("500")(n, b)
    chat = make_chat(server, tmp_path)
    with caplog.at_level("DEBUG"):
        chat.complete([ask("a")])
        (failure,) = chat.complete([ask("b")])
    server.behave = failing("401")
    (refused,) = chat.complete([ask("c")])
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY not in failure.reason + repr(chat) + caplog.text
    assert KEY[:12] not in refused.reason
    assert KEY.encode() not in files


def test_a_missing_key_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.delenv("DART_TEST_KEY", raising=False)
    store = ResponseStore(tmp_path / "s.sqlite")
    for address in (None, "https://llm.example/v1"):
        with pytest.raises(MissingKey, match="DART_TEST_KEY is not set"):
            OpenAIChat("m", address, "DART_TEST_KEY", 1, 1.0, store)


def test_a_loopback_server_needs_no_key(server, tmp_path, monkeypatch):
    monkeypatch.delenv("DART_TEST_KEY")
    assert make_chat(server, tmp_path).complete([ask("a")]) == [ChatReply("r", "ok", 7, 3)]


def test_an_unusable_key_is_not_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("DART_TEST_KEY", "sk-\u00e9secret")
    with pytest.raises(MissingKey) as error:
        OpenAIChat("m", None, "DART_TEST_KEY", 1, 1.0, ResponseStore(tmp_path / "s.sqlite"))
    assert "DART_TEST_KEY" in str(error.value) and "secret" not in str(error.value)


def test_an_address_without_scheme_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no http"):
        OpenAIChat("m", "localhost:8000/v1", "X", 1, 1.0, ResponseStore(tmp_path / "s.sqlite"))
