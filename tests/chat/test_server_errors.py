"""What a failure says: the address and the cause, and the server's words in whichever form."""

import socket
import time

import pytest

from dart_jax.chat.protocol import BAD_PROMPT, ChatFailure, ChatReply
from dart_jax.chat.server_errors import address_of
from dart_jax.chat.store import ResponseStore
from tests.chat.loopback import KEY, ask, make_chat, make_chat_at, said


def failure_of(chat) -> str:
    with chat:
        (failure,) = chat.complete([ask("a")])
    assert isinstance(failure, ChatFailure) and "\n" not in failure.reason
    return failure.reason


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_refused_connection_names_address_and_cause(server, tmp_path):
    port = unused_port()
    reason = failure_of(make_chat_at(f"http://127.0.0.1:{port}/v1", tmp_path, max_retries=0))
    assert reason.startswith(f"APIConnectionError: 127.0.0.1:{port}: ConnectionRefusedError: ")


def test_an_unknown_host_is_named(monkeypatch, server, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    reason = failure_of(make_chat_at("http://nowhere.invalid:81/v1", tmp_path, max_retries=0))
    assert reason.startswith("APIConnectionError: nowhere.invalid:81: gaierror: ")


def test_a_cut_connection_names_address_and_cause(server, tmp_path):
    server.behave = lambda number, body: None
    reason = failure_of(make_chat(server, tmp_path, max_retries=0))
    address = server.url.removeprefix("http://").removesuffix("/v1")
    cause = reason.removeprefix(f"APIConnectionError: {address}: ")
    assert cause != reason and cause and "Connection error" not in cause


def test_a_timeout_names_address_and_seconds(server, tmp_path):
    server.behave = lambda number, body: time.sleep(0.6) or (200, said("late"))
    reason = failure_of(make_chat(server, tmp_path, max_retries=0, timeout=0.25))
    address = server.url.removeprefix("http://").removesuffix("/v1")
    assert reason == f"APITimeoutError: no byte from {address} within 0.25 s"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": {"message": "too long"}}, "too long"),
        ({"error": "too long"}, "too long"),
        ({"message": "too long"}, "too long"),
        ({"detail": "too long"}, "too long"),
        ({"detail": {"error": {"message": "too long"}}}, "too long"),
        (
            {
                "detail": [
                    {"loc": ["body", "messages", 0], "msg": "too long", "input": "a prompt"},
                    {"loc": ["body", "seed"], "msg": "no number", "type": "int"},
                ]
            },
            "body.messages.0: too long; body.seed: no number",
        ),
        ({"detail": ["one", "two"]}, "one; two"),
        (b"<html>\n bad\tgateway </html>", "<html> bad gateway </html>"),
        ({}, "the server says no more"),
        ([], "the server says no more"),
        ({"detail": None}, "the server says no more"),
        ({"detail": {"a": [[[[["deep"]]]]]}}, "the server says no more"),
    ],
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_the_servers_words_are_shown_in_every_usual_form(server, tmp_path, body, says, status):
    server.behave = lambda number, sent: (status, body)
    reason = failure_of(make_chat(server, tmp_path, max_retries=0))
    assert reason.endswith(f"Error {status}: {says}") and "a prompt" not in reason


@pytest.mark.parametrize(
    "body",
    [
        {"detail": f"you sent Bearer {KEY}"},
        {"detail": [{"loc": ["header", KEY], "msg": KEY}]},
        f"<html>{KEY}</html>".encode(),
        {"error": KEY},
    ],
)
def test_no_form_of_an_error_shows_the_key(server, tmp_path, body):
    server.behave = lambda number, sent: (400, body)
    reason = failure_of(make_chat(server, tmp_path, max_retries=0))
    assert "[key]" in reason and KEY[:8] not in reason and KEY[-8:] not in reason


def test_an_error_that_no_file_could_hold_is_written_as_escapes(server, tmp_path):
    server.behave = lambda number, sent: (400, {"detail": "odd \ud800 and \u0000"})
    reason = failure_of(make_chat(server, tmp_path, max_retries=0))
    assert r"odd \ud800 and" in reason and reason.encode("utf-8")
    with ResponseStore(tmp_path / "store.sqlite") as store:
        assert list(store.failures().values()) == [(reason, 1)]


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("https://llm.example/v1/", "llm.example:443"),
        ("http://llm.example", "llm.example:80"),
        ("http://[::1]:9/v1", "[::1]:9"),
        ("http://me:secret@host:9/v1", "host:9"),
    ],
)
def test_the_address_is_host_and_port(base_url, address):
    assert address_of(base_url) == address


def parts(*content: object) -> dict:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": list(content)}}]}


def text(value: object) -> dict:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([text("a")], "a"),
        ([text("a "), text("b")], "a b"),
        ([{"type": "output_text", "text": "a", "annotations": []}], "a"),
        ([], "empty completion"),
        ([text(" ")], "empty completion"),
        ([text("a"), {"type": "image_url", "image_url": {}}], "a part that is not text"),
        ([text("a"), {"type": "refusal", "refusal": "no"}], "a part that is not text"),
        ([text("a"), "b"], "a part that is not text"),
        ([text("a"), text(None)], "a part that is not text"),
        ([{"text": "a"}], "a part that is not text"),
        ([text("a\ud800")], "not valid Unicode"),
    ],
)
def test_a_content_in_parts_is_joined_and_other_parts_are_a_failure(
    server, tmp_path, content, expected
):
    server.behave = lambda number, body: (200, parts(*content))
    with make_chat(server, tmp_path) as chat:
        (result,) = chat.complete([ask("a")])
        if isinstance(result, ChatReply):
            assert result.text == expected
            assert chat.complete([ask("a")]) == [result], "from the store, too"
            assert len(server.bodies) == 1
        else:
            assert expected in result.reason


def test_a_refusal_in_place_of_a_content_is_a_failure(server, tmp_path):
    answer = said(None)
    answer["choices"][0]["message"]["refusal"] = "I will not."
    server.behave = lambda number, body: (200, answer)
    assert failure_of(make_chat(server, tmp_path)) == "the service's model refused to answer"


def test_a_prompt_that_is_not_unicode_is_a_failure_of_its_own(server, tmp_path):
    with make_chat(server, tmp_path) as chat:
        bad, good = chat.complete([ask("a\ud800", "bad"), ask("b\u0000\u2028", "good")])
    assert bad == ChatFailure("bad", BAD_PROMPT)
    assert isinstance(good, ChatReply) and len(server.bodies) == 1
    assert server.bodies[0]["messages"][0]["content"] == "b\u0000\u2028"
