"""A canary key: whatever the server sends back, no log, message or stored byte holds it."""

import logging
import re

import pytest

from dart_jax.chat.config import check_endpoint
from dart_jax.chat.endpoint import MissingKey, resolve_endpoint
from dart_jax.chat.openai_client import ServiceRefused
from dart_jax.chat.protocol import ChatFailure, ChatReply
from dart_jax.chat.redact import Redactor
from tests.chat.loopback import KEY, ask, make_chat, said

ECHO = f"you sent Authorization: Bearer {KEY}, that is {KEY[3:15]} and so on"
PARTS = [KEY[start : start + 8] for start in range(len(KEY) - 7)]


def holds_key(text: str) -> bool:
    return any(part in text for part in PARTS)


@pytest.fixture
def logged():
    """Everything that any library logs, at the lowest level."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Keep(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.NOTSET)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_an_error_that_echoes_the_key(server, tmp_path, logged, status):
    server.behave = lambda n, b: (status, {"error": {"message": ECHO, "code": KEY, "param": KEY}})
    chat = make_chat(server, tmp_path, max_retries=0)
    if status == 401:
        with pytest.raises(ServiceRefused) as stopped:
            chat.complete([ask("a")])
        said_by_us = str(stopped.value) + str(stopped.value.__cause__)
    else:
        (failure,) = chat.complete([ask("a")])
        assert isinstance(failure, ChatFailure)
        said_by_us = failure.reason
    assert server.keys == [f"Bearer {KEY}"]
    assert not holds_key(said_by_us + repr(chat) + "\n".join(logged))
    assert not holds_key(files(tmp_path))
    assert logged, "the libraries do log"


def test_an_answer_that_echoes_the_key(server, tmp_path, logged):
    server.behave = lambda number, body: (200, {**said(f"fine, {KEY}"), "headers": ECHO})
    (reply,) = make_chat(server, tmp_path).complete([ask("a")])
    assert reply == ChatReply("r", "fine, [key]", 7, 3)
    assert KEY not in files(tmp_path) + "\n".join(logged)


def test_a_body_that_is_no_answer_and_a_header_that_echo_the_key(server, tmp_path, logged):
    server.headers = {"X-Seen": f"Bearer {KEY}", "X-Request-Id": KEY}
    server.behave = lambda number, body: (200, ECHO.encode())
    (failure,) = make_chat(server, tmp_path).complete([ask("a")])
    assert failure.reason == "the response is not JSON"
    assert not holds_key(files(tmp_path) + "\n".join(logged))


def files(folder) -> str:
    return b"".join(path.read_bytes() for path in folder.iterdir()).decode("latin-1")


def test_the_endpoint_does_not_show_its_key(server):
    assert KEY not in repr(resolve_endpoint("openai", server.url, "DART_TEST_KEY"))


def test_redaction_leaves_everything_else():
    redactor = Redactor("abcdefghijkl")
    assert redactor.message("x abcdefghijkl y bcdefghi z abcdefg") == "x [key] y [key] z abcdefg"
    assert redactor.answer("x abcdefghijkl y bcdefghi") == "x [key] y bcdefghi"
    assert redactor.message("a.*b") == "a.*b"
    assert Redactor("EMPTY").answer("EMPTY") == "EMPTY"


def test_a_missing_key_is_named(monkeypatch):
    for provider, variable in (("openai", "OPENAI_API_KEY"), ("deepseek", "DEEPSEEK_API_KEY")):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(MissingKey, match=f"{variable} is not set"):
            resolve_endpoint(provider, None, None)
    with pytest.raises(MissingKey, match=r"DART_TEST_KEY is not set.*llm\.example"):
        resolve_endpoint("openai", "https://llm.example/v1", "DART_TEST_KEY")


def test_presets(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "two")
    openai = resolve_endpoint("openai", None, None)
    assert (openai.base_url, openai.key) == ("https://api.openai.com/v1/", "one")
    assert openai.token_field == "max_completion_tokens"
    deepseek = resolve_endpoint("deepseek", None, None)
    assert (deepseek.base_url, deepseek.key) == ("https://api.deepseek.com/", "two")
    assert deepseek.token_field == "max_tokens"


def test_a_loopback_server_needs_no_key(server, tmp_path, monkeypatch):
    monkeypatch.delenv("DART_TEST_KEY")
    assert make_chat(server, tmp_path).complete([ask("a")]) == [ChatReply("r", "ok", 7, 3)]


def test_an_unusable_key_is_not_quoted(monkeypatch):
    monkeypatch.setenv("DART_TEST_KEY", "sk-\u00e9secret")
    with pytest.raises(MissingKey) as error:
        resolve_endpoint("openai", None, "DART_TEST_KEY")
    assert "DART_TEST_KEY" in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("base_url", "variable", "says"),
    [
        ("localhost:8000/v1", None, "no http"),
        ("https://me:secret@host/v1", None, "credentials"),
        ("https://host/v1?key=secret", None, "credentials"),
        (None, "sk-secret", "not the name of an environment variable"),
        (None, "", "not the name of an environment variable"),
    ],
)
def test_settings_that_may_hold_a_secret_are_refused(base_url, variable, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        check_endpoint(base_url, variable)
    assert "secret" not in str(error.value)
