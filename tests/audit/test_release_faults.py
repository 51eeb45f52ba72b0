"""Faults 2 and 3 of the authors' release (DESIGN.md): what the judge cannot say is not harmless.

The judge here is a real server on loopback behind the real client and its response store.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.drift import count_audit, drift_cases
from dart_jax.audit.judge import judge_pairs
from dart_jax.chat.config import LimitsConfig
from dart_jax.chat.endpoint import resolve_endpoint
from dart_jax.chat.openai_client import OpenAIChat
from dart_jax.chat.store import ResponseStore
from dart_jax.records import JudgeFailure, Severity, Uncertain, Verdict

BAD = "Looks harmless to me."


class Judge(BaseHTTPRequestHandler):
    """Finds the text with the word `worse` in it worse, as grave as the text's last word says.

    `server.fault` is what it does instead: `timeout`, an HTTP status, or a text that it says.
    `server.refuses` names response formats that it answers with 400.
    """

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        format = body.get("response_format", {}).get("type")
        if format in self.server.refuses:
            return self._send(400, {"error": {"message": f"no {format}"}})
        self.server.asked.append(body)
        fault = self.server.fault
        if fault == "timeout":
            time.sleep(0.6)
        if isinstance(fault, int):
            return self._send(fault, {"error": {"message": "down"}})
        text = fault if fault not in (None, "timeout") else self._judge(body)
        message = {"role": "assistant", "content": text}
        return self._send(200, {"id": "x", "choices": [{"index": 0, "message": message}]})

    def _judge(self, body) -> str:
        user = body["messages"][1]["content"]
        [line] = [line for line in user.splitlines() if line.startswith('{"question"')]
        texts = json.loads(line)
        worse = [place for place in ("first", "second") if "worse" in texts[place]]
        answer = {"reason": "r", "passage": "p", "worse": "neither", "type": None, "severity": None}
        if worse:
            severity = texts[worse[0]].split()[-1]
            answer |= {"worse": worse[0], "type": "omits", "severity": severity}
        said = json.dumps(answer)
        return said if "response_format" in body else f"```json\n{said}\n```"

    def _send(self, status, value) -> None:
        body = json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client that timed out is gone

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    http.fault, http.refuses, http.asked = None, (), []
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def audit(server, pair, question, tmp_path):
    """A function: judge five pairs, a harmless one and one of each severity, through the store."""
    pairs = [pair("q0", candidate="A second plain text.")]
    pairs += [pair(f"q{s.value}", candidate=f"A worse text, {s.name.lower()}") for s in Severity]

    def run(attempts=2, timeout=10.0):
        store = ResponseStore(tmp_path / "responses.sqlite")
        url = f"http://127.0.0.1:{server.server_port}/v1"
        endpoint = resolve_endpoint("openai", url, "NO_SUCH_KEY")
        limits = LimitsConfig(max_retries=0)
        config = JudgeConfig(provider="openai", attempts=attempts)
        questions = {p.question_id: question(p.question_id) for p in pairs}
        with store, OpenAIChat(endpoint, "m", store, timeout=timeout, limits=limits) as chat:
            return pairs, judge_pairs(pairs, questions, chat, config)

    return run


def severities(pairs, outcomes) -> list[Severity]:
    return [case.severity for case in drift_cases(pairs, outcomes)]


@pytest.mark.parametrize("fault", ["timeout", 500, BAD, ""])
def test_fault_2_a_call_that_fails_is_a_failure_and_asked_again(server, audit, fault):
    """In the release it counted as no harm, was cached, and dropped the case."""
    server.fault = fault
    pairs, outcomes = audit(timeout=0.3 if fault == "timeout" else 10.0)
    assert all(isinstance(outcome, JudgeFailure) for outcome in outcomes)
    summary = count_audit(pairs, pairs, outcomes)
    assert (summary.failed, summary.confirmed, summary.judged) == (5, 0, 5)

    server.fault, asked = None, len(server.asked)
    attempts = 3 if fault == BAD else 2  # an answer, however bad, is paid for and kept
    pairs, outcomes = audit(attempts)
    assert len(server.asked) == asked + 2 * len(pairs)
    assert isinstance(outcomes[0], Verdict) and not outcomes[0].drift
    assert severities(pairs, outcomes) == list(Severity)


def test_fault_2_a_failure_in_one_order_is_not_outvoted_by_the_other(server, audit, monkeypatch):
    judge = Judge._judge

    def fails_where_first_is_worse(self, body):
        said = judge(self, body)
        return BAD if '"worse": "first"' in said else said

    monkeypatch.setattr(Judge, "_judge", fails_where_first_is_worse)
    _, outcomes = audit()
    assert [type(outcome) for outcome in outcomes] == [Verdict, *[JudgeFailure] * 4]
    assert all(outcome.reason.startswith("candidate first: ") for outcome in outcomes[1:])


def test_fault_3_a_second_run_keeps_every_severity(server, audit):
    """In the release the cache held 0 or 1, and a second run turned every severity into mild."""
    pairs, first = audit()
    assert severities(pairs, first) == list(Severity) and len(server.asked) == 2 * len(pairs)
    server.fault = 500  # from here on only the store can answer
    pairs, again = audit()
    assert again == first and len(server.asked) == 2 * len(pairs)


@pytest.mark.parametrize("refuses", [("json_schema",), ("json_schema", "json_object")])
def test_a_server_without_schemas_is_asked_in_the_next_mode(server, audit, refuses):
    """Down to plain text, where the answer comes in a code fence and the parser decides."""
    server.refuses = refuses
    pairs, outcomes = audit()
    assert severities(pairs, outcomes) == list(Severity)
    assert len(server.asked) == 2 * len(pairs)


def test_a_server_that_prefers_the_first_text_confirms_nothing(server, audit):
    answer = {"reason": "r", "passage": "", "worse": "first", "type": "omits"}
    server.fault = json.dumps(answer | {"severity": "extreme"})
    pairs, outcomes = audit()
    assert all(isinstance(outcome, Uncertain) for outcome in outcomes)
    assert drift_cases(pairs, outcomes) == []
    assert count_audit(pairs, pairs, outcomes).uncertain == 5
