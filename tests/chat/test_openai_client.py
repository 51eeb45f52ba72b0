"""The OpenAI client against a real server on the loopback device."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from dart_jax.chat.openai_client import ServiceRefused, answer_key
from dart_jax.chat.protocol import ChatFailure, ChatReply
from dart_jax.chat.store import ResponseStore
from dart_jax.prompts.thinking import UNFINISHED
from tests.chat.loopback import KEY, ask, make_chat, said

SCHEMA = {"type": "object", "properties": {"drift": {"type": "boolean"}}, "required": ["drift"]}


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
    requests = [ask("a", "1"), ask("b", "2")]
    first = make_chat(server, tmp_path).complete(requests)
    sent = len(server.bodies)
    seen = []
    second = make_chat(server, tmp_path).complete(requests, seen.append)
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


@pytest.mark.parametrize(("header", "least", "most"), [("1.2", 1.2, 2.5), (None, 0.37, 1.1)])
def test_retry_after_is_honoured(server, tmp_path, header, least, most):
    def behave(number, body):
        server.headers = {"Retry-After": header} if number == 0 and header else {}
        return (200, said("ok")) if number else (429, {"error": {"message": "slow down"}})

    server.behave = behave
    with make_chat(server, tmp_path) as chat:
        chat.complete([ask("x", "warm")])
        server.bodies.clear()
        started = time.monotonic()
        chat.complete([ask("a")])
    assert len(server.bodies) == 2 and least < time.monotonic() - started < most


def failing(kind: str) -> Callable:
    def timeout(number, body):
        time.sleep(0.6)
        return 200, said("late")

    return {
        "500": lambda n, b: (500, {"error": {"message": f"broken, key {KEY}"}}),
        "403": lambda n, b: (403, {"error": {"message": f"bad key {KEY[:7]}***"}}),
        "cut": lambda n, b: None,
        "timeout": timeout,
        "empty": lambda n, b: (200, said("  \n")),
        "null": lambda n, b: (200, said(None)),
        "no choices": lambda n, b: (200, {"choices": []}),
        "not JSON": lambda n, b: (200, b"<html>gateway</html>"),
        "too deep": lambda n, b: (200, b"[" * 100_000),
        "half a character": lambda n, b: (200, said("a\ud800")),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "reason", "requests"),
    [
        ("500", "InternalServerError 500", 2),
        ("403", "PermissionDeniedError 403", 1),
        ("cut", "APIConnectionError", 2),
        ("timeout", "APITimeoutError", 2),
        ("empty", "empty completion", 1),
        ("null", "empty completion", 1),
        ("no choices", "not a chat completion", 1),
        ("not JSON", "not JSON", 1),
        ("too deep", "not JSON", 1),
        ("half a character", "not valid Unicode", 1),
    ],
)
def test_a_failure_is_a_value_and_is_never_stored(server, tmp_path, kind, reason, requests):
    server.behave = failing(kind)
    chat = make_chat(server, tmp_path, timeout=0.25)
    (failure,) = chat.complete([ask("a")])
    assert isinstance(failure, ChatFailure)
    assert reason in failure.reason
    assert len(server.bodies) == requests
    store = ResponseStore(tmp_path / "store.sqlite")
    assert store.token_use() == (0, 0)
    assert list(store.failures().values()) == [(failure.reason, requests)]
    server.behave = lambda number, body: (200, said("now"))
    assert chat.complete([ask("a")]) == [ChatReply("r", "now", 7, 3)]
    assert store.failures() == {}


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


def test_equal_requests_are_sent_once(server, tmp_path):
    server.behave = lambda number, body: time.sleep(0.05) or (200, said("ok"))
    chat = make_chat(server, tmp_path)
    answers = chat.complete([ask("a", str(i)) for i in range(6)])
    assert [answer.text for answer in answers] == ["ok"] * 6
    assert len(server.bodies) == 1


def unsupported(parameter: str) -> tuple[int, dict]:
    code = "unsupported_value" if parameter == "temperature" else "unsupported_parameter"
    return 400, {"error": {"message": f"no {parameter}", "param": parameter, "code": code}}


def test_a_reasoning_model_gets_its_own_parameters(server, tmp_path, caplog):
    def behave(number, body):
        for parameter in ("max_tokens", "temperature"):
            if parameter in body:
                return unsupported(parameter)
        return 200, said("ok")

    server.behave = behave
    chat = make_chat(server, tmp_path)
    assert isinstance(chat.complete([ask("a")])[0], ChatReply)
    assert "max_completion_tokens for max_tokens" in caplog.text and "temperature" in caplog.text
    assert len(server.bodies) == 3
    chat.complete([ask("b")])
    assert len(server.bodies) == 4 and server.bodies[-1]["max_completion_tokens"] == 64
    with make_chat(server, tmp_path) as again:
        again.complete([ask("a")])
    assert len(server.bodies) == 4, "what is asked, not how, is the key of an answer"


def test_a_parameter_that_is_merely_wrong_is_a_failure(server, tmp_path):
    error = {"message": "at most 2", "param": "temperature", "code": "decimal_above_max_value"}
    server.behave = lambda number, body: (400, {"error": error})
    (failure,) = make_chat(server, tmp_path).complete([ask("a")])
    assert "at most 2" in failure.reason and len(server.bodies) == 1


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "invalid_api_key", "refused"),
        (402, None, "credit"),
        (429, "insufficient_quota", "credit"),
    ],
)
def test_a_service_that_takes_no_request_at_all_stops(server, tmp_path, status, code, says):
    server.behave = lambda n, b: (status, {"error": {"message": f"no: {KEY}", "code": code}})
    chat = make_chat(server, tmp_path, concurrency=2, max_retries=0)
    seen = []
    with pytest.raises(ServiceRefused, match=says) as stopped:
        chat.complete([ask(str(i), str(i)) for i in range(20)], seen.append)
    assert KEY not in str(stopped.value)
    assert len(server.bodies) <= 4 and all(isinstance(result, ChatFailure) for result in seen)


def test_an_error_of_the_caller_stops_the_batch_and_loses_no_answer(server, tmp_path):
    server.behave = lambda number, body: time.sleep(0.05) or (200, said("ok"))

    def refuse(result) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_chat(server, tmp_path).complete([ask(str(i), str(i)) for i in range(30)], refuse)
    assert len(server.bodies) == len(ResponseStore(tmp_path / "store.sqlite").keys()) <= 8


CUT_OFF = "cut off at max_tokens 64; raise it"


def finished(text: str | None, finish: str | None) -> dict:
    response = said(text)
    response["choices"][0]["finish_reason"] = finish
    return response


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("It is so.", "stop", "It is so."),
        ("<think>Hm.\nConclusion: NO</think>\n\nIt is so.", "stop", "It is so."),
        ("Hm.</think>It is so.", None, "It is so."),
        ("It is", "length", ChatFailure("r", CUT_OFF)),
        ("<think>Hm", "length", ChatFailure("r", f"{UNFINISHED}; {CUT_OFF}")),
        (None, "length", ChatFailure("r", CUT_OFF)),  # all spent on reasoning
        ("<think>Hm", "stop", ChatFailure("r", UNFINISHED)),
        ("<think>Hm.</think>", "stop", ChatFailure("r", "empty completion")),
        ("It is", "content_filter", ChatFailure("r", "ended by the server's content filter")),
    ],
)
def test_only_a_finished_answer_without_its_reasoning_is_one(
    text, finish, expected, server, tmp_path
):
    """The store keeps an answer as the server gave it; a failure is asked again."""
    server.behave = lambda number, body: (200, finished(text, finish))
    for start in range(2):
        with make_chat(server, tmp_path) as chat:
            [result] = chat.complete([ask("q")])
        if isinstance(expected, ChatFailure):
            assert result == expected
            assert len(server.bodies) == start + 1
        else:
            assert result == ChatReply("r", expected, 7, 3)
            assert len(server.bodies) == 1
            key = answer_key(f"{server.url}/", "m", ask("q"))
            assert chat._store.get(key) == finished(text, finish)


def test_a_stored_answer_that_is_none_is_asked_for_again(server, tmp_path):
    """As one that was cut off, stored by a version that took it for whole."""
    server.behave = lambda number, body: (200, finished("Whole.", "stop"))
    with make_chat(server, tmp_path) as chat:
        key = answer_key(f"{server.url}/", "m", ask("q"))
        cut = finished("Who", "length")
        chat._store.put(key, cut, prompt_tokens=7, completion_tokens=3).result()
        assert chat.complete([ask("q")]) == chat.complete([ask("q")])
        assert chat._store.get(key) == finished("Whole.", "stop")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "stored",
    ["{", "null", "{}", json.dumps(said("")), json.dumps(said("half \ud800")), json.dumps([1])],
)
def test_a_stored_answer_that_cannot_be_read_is_asked_again_once(server, tmp_path, stored):
    make_chat(server, tmp_path).complete([ask("a"), ask("b", "b")])
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as db, db:
        db.execute(
            "UPDATE responses SET response = ? WHERE key = ?",
            (stored, answer_key(f"{server.url}/", "m", ask("a"))),
        )
    for _ in range(2):
        with make_chat(server, tmp_path) as chat:
            assert chat.complete([ask("a")]) == [ChatReply("r", "ok", 7, 3)]
        assert len(server.bodies) == 3


def test_what_was_forgotten_is_asked_again_by_the_next_start_and_nothing_else(server, tmp_path):
    server.behave = lambda number, body: (200, said(f"answer {number}"))
    with make_chat(server, tmp_path, concurrency=1) as chat:
        chat.complete([ask("a", "a"), ask("b", "b")])
        chat.forget([ask("a"), ask("never asked")], "no use")
    with ResponseStore(tmp_path / "store.sqlite") as store:
        assert list(store.failures().values()) == [("no use", 1)]
    with make_chat(server, tmp_path) as chat:
        texts = [answer.text for answer in chat.complete([ask("a", "a"), ask("b", "b")])]
    assert texts == ["answer 2", "answer 1"]
