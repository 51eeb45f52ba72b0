"""How a server wants to be asked: what it refuses, in every usual wording, is learned once."""

import json
import threading
from dataclasses import replace

import pytest

from dart_jax.chat.openai_client import answer_key
from dart_jax.chat.protocol import ChatFailure, ChatReply
from dart_jax.chat.store import ResponseStore
from tests.chat.fault_proxy import FaultProxy
from tests.chat.loopback import ask, make_chat, make_chat_at, said

SCHEMA = {"type": "object", "properties": {"drift": {"type": "boolean"}}, "required": ["drift"]}
SAID = ChatReply("r", "ok", 7, 3)


def mode_of(body: dict) -> str:
    return body.get("response_format", {"type": "plain"})["type"]


def refusing(*modes: str, status: int, error: object = None):
    """A server that answers the status to these JSON modes."""

    def behave(number: int, body: dict):
        return (status, error or {}) if mode_of(body) in modes else (200, said("ok"))

    return behave


REFUSED_MAX_TOKENS = [
    {
        "error": {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    },
    {"error": {"message": "max_tokens: unknown field", "code": 400}},
    {"error": "max_tokens is not supported by this deployment"},
    {"message": "Unrecognized request argument supplied: max_tokens"},
    {"detail": "max_tokens is deprecated, use max_completion_tokens"},
    {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "max_tokens"],
                "msg": "Extra inputs are not permitted",
                "input": 64,
            }
        ]
    },
]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("error", REFUSED_MAX_TOKENS)
def test_max_tokens_refused_without_a_code_is_max_completion_tokens(
    server, tmp_path, error, status, caplog
):
    server.behave = lambda n, body: (status, error) if "max_tokens" in body else (200, said("ok"))
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([ask("a")]) == [SAID]
        assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 64]
        chat.complete([ask("b"), ask("c")])
    assert len(server.bodies) == 4, "it is remembered"
    assert caplog.text.count("max_completion_tokens for max_tokens") == 1
    assert all("temperature" in body for body in server.bodies)


@pytest.mark.parametrize(
    "error",
    [
        {
            "error": {
                "message": "Unsupported value: 'temperature' does not support 0.2 with this model."
                " Only the default (1) value is supported.",
                "param": None,
                "code": None,
            }
        },
        {"error": {"message": "O-series models don't support temperature=0.2."}},
        {"message": "`temperature` is deprecated for this model."},
        {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]},
    ],
)
def test_temperature_refused_without_a_code_is_left_out_said_once_and_stored(
    server, tmp_path, error, caplog
):
    server.behave = lambda n, body: (400, error) if "temperature" in body else (200, said("ok"))
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([ask("a")]) == [SAID]
        chat.complete([ask(str(number), str(number)) for number in range(6)])
    assert len(server.bodies) == 8
    assert caplog.text.count("refuses temperature 0.2") == 1
    assert "at its own temperature" in caplog.text and "127.0.0.1:" in caplog.text
    with ResponseStore(tmp_path / "store.sqlite") as store:
        stored = store.get(answer_key(f"{server.url}/", "m", ask("a")))
        assert stored["not_applied"] == ["temperature"]


def test_refused_log_probabilities_are_left_out_said_once_and_stored(server, tmp_path, caplog):
    refusal = {"error": {"message": "logprobs is not supported by this server"}}
    server.behave = lambda n, body: (400, refusal) if "logprobs" in body else (200, said("ok"))
    request = replace(ask("a"), top_logprobs=5)
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([request]) == [SAID]
        assert [body.get("top_logprobs") for body in server.bodies] == [5, None]
        chat.complete([replace(ask("b"), top_logprobs=5), ask("a")])
    assert len(server.bodies) == 4, "without them it is another request"
    assert caplog.text.count("refuses logprobs") == 1
    with ResponseStore(tmp_path / "store.sqlite") as store:
        stored = store.get(answer_key(f"{server.url}/", "m", request))
        assert stored["not_applied"] == ["logprobs"]


@pytest.mark.parametrize(
    "message",
    [
        "temperature must be at most 2",
        "max_tokens is too large: 64. This model supports at most 32 completion tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 64. This model's maximum context"
        " length is 32 tokens.",
        "This model's maximum context length is 32 tokens; you requested max_tokens 64",
        "max_tokens_to_sample is not supported",
        "the request is not supported",
    ],
)
def test_a_value_that_is_merely_wrong_is_a_failure(server, tmp_path, message):
    error = {"error": {"message": message, "param": None, "code": None}}
    server.behave = lambda number, body: (400, error)
    (failure,) = make_chat(server, tmp_path).complete([ask("a")])
    assert isinstance(failure, ChatFailure) and message[:40] in failure.reason
    assert len(server.bodies) == 1


def test_a_refused_json_mode_is_not_taken_for_a_refused_temperature(server, tmp_path):
    message = "unknown response_format; supported are temperature, max_tokens"
    server.behave = refusing("json_schema", status=400, error={"error": {"message": message}})
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([ask("a", schema=SCHEMA)]) == [SAID]
    assert {"temperature", "max_tokens"} <= server.bodies[-1].keys()


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, ["json_schema"]),
        (422, ["json_schema"]),
        (404, ["json_schema"]),
        (501, ["json_schema"]),
        (500, ["json_schema", "json_schema"]),  # once may be an accident
    ],
)
@pytest.mark.parametrize("retries", [1, 4])
def test_a_missing_json_schema_mode_costs_no_retries_and_is_remembered(
    server, tmp_path, status, sent, retries, caplog
):
    server.behave = refusing("json_schema", status=status)
    with make_chat(server, tmp_path, max_retries=retries) as chat:
        assert chat.complete([ask("a", schema=SCHEMA)]) == [SAID]
        assert [mode_of(body) for body in server.bodies] == [*sent, "json_object"]
        prompt = server.bodies[-1]["messages"][-1]["content"]
        assert prompt.startswith("a\n") and json.dumps(SCHEMA) in prompt
        chat.complete([ask(str(n), str(n), SCHEMA) for n in range(3)])
    assert [mode_of(body) for body in server.bodies[-3:]] == ["json_object"] * 3
    assert caplog.text.count("json_object for json_schema") == 1
    with ResponseStore(tmp_path / "store.sqlite") as store:
        stored = store.get(answer_key(f"{server.url}/", "m", ask("a", schema=SCHEMA)))
        assert stored["not_applied"] == ["json_schema"] and store.failures() == {}


@pytest.mark.parametrize("status", [404, 500, 501])
def test_where_json_object_is_missing_too_the_prompt_alone_asks_for_json(server, tmp_path, status):
    server.behave = refusing("json_schema", "json_object", status=status)
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([ask("a", schema=SCHEMA)]) == [SAID]
        before = len(server.bodies)
        assert chat.complete([ask("b", schema=SCHEMA)]) == [SAID]
    assert before == (5 if status == 500 else 3) and len(server.bodies) == before + 1
    assert mode_of(server.bodies[-1]) == "plain"


def test_500_with_no_retries_allowed_falls_back_at_once(server, tmp_path):
    server.behave = refusing("json_schema", status=500)
    with make_chat(server, tmp_path, max_retries=0) as chat:
        assert chat.complete([ask("a", schema=SCHEMA)]) == [SAID]
    assert len(server.bodies) == 2


def test_a_bad_moment_of_the_server_changes_no_mode(server, tmp_path):
    """It is passed by retries, at the start and later."""
    bad = {0, 3, 4}
    server.behave = lambda n, body: (500, {}) if n in bad else (200, said("ok"))
    with make_chat(server, tmp_path, max_retries=2) as chat:
        for text in ("a", "b", "c"):
            assert chat.complete([ask(text, schema=SCHEMA)]) == [SAID]
    assert [mode_of(body) for body in server.bodies] == ["json_schema"] * 6


def test_an_outage_at_the_start_is_no_refusal_of_the_modes(server, tmp_path):
    server.behave = lambda n, body: (500, {}) if n < 5 else (200, said("ok"))
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([ask("a", schema=SCHEMA)]) == [SAID]
        assert chat.complete([ask("b", schema=SCHEMA)]) == [SAID]
    assert mode_of(server.bodies[-1]) == "json_schema"


def test_once_a_mode_was_answered_404_and_500_are_failures(server, tmp_path):
    with make_chat(server, tmp_path) as chat:
        assert chat.complete([ask("a", schema=SCHEMA)]) == [SAID]
        for status, sent in ((404, 1), (501, 2), (500, 2)):
            server.bodies.clear()
            server.behave = lambda n, body, status=status: (status, {})
            (failure,) = chat.complete([ask(str(status), schema=SCHEMA)])
            assert str(status) in failure.reason
            assert [mode_of(body) for body in server.bodies] == ["json_schema"] * sent


def test_a_model_that_is_not_there_is_not_asked_for_in_every_mode(server, tmp_path):
    error = {"error": {"message": "The model `m` does not exist.", "code": 404}}
    server.behave = lambda number, body: (404, error)
    (failure,) = make_chat(server, tmp_path).complete([ask("a", schema=SCHEMA)])
    assert "NotFoundError 404: The model `m` does not exist." in failure.reason
    assert len(server.bodies) == 1


def test_everything_refused_at_once_is_learned_together(server, tmp_path, caplog):
    def behave(number: int, body: dict):
        for name in ("max_tokens", "temperature"):
            if name in body:
                return 400, {"detail": f"{name} is not supported"}
        return (404, {}) if mode_of(body) != "plain" else (200, said("ok"))

    server.behave = behave
    with make_chat(server, tmp_path, concurrency=3) as chat:
        first = chat.complete([ask(str(n), str(n), SCHEMA if n % 2 else None) for n in range(6)])
        assert all(isinstance(answer, ChatReply) for answer in first)
        before = len(server.bodies)
        chat.complete([ask("x", schema=SCHEMA), ask("y")])
    assert len(server.bodies) == before + 2
    for said_once in ("max_completion_tokens for", "refuses temperature", "plain for"):
        assert caplog.text.count(said_once) == 1


def test_a_missing_json_mode_is_found_out_through_a_connection_that_fails(server, tmp_path):
    """A third of the requests meet a fault of the proxy, beside the 500 for each json_schema."""
    server.behave = refusing("json_schema", status=500)
    proxy = FaultProxy(server.url, {"500": 0.1, "429": 0.1, "cut": 0.1, "empty": 0.05})
    thread = threading.Thread(target=proxy.http.serve_forever, args=(0.02,))
    thread.start()
    try:
        requests = [ask(str(number), str(number), SCHEMA) for number in range(32)]
        for _ in range(3):  # what failed is asked again by the next start
            with make_chat_at(proxy.url, tmp_path, concurrency=8, max_retries=4) as chat:
                answers = chat.complete(requests)
    finally:
        proxy.http.shutdown()
        proxy.http.server_close()
        thread.join()

    assert all(isinstance(answer, ChatReply) for answer in answers)
    assert {"500", "cut", "429", "passed"} <= set(proxy.counts())
    modes = [mode_of(body) for body in server.bodies]
    # Each of the three starts finds out anew, with at most twice as many requests as are in flight.
    assert modes.count("json_schema") <= 3 * 2 * 8
    assert modes.count("json_object") >= 24
