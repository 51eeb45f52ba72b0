"""A judge behind a real server: it finds the text with the higher hash worse, in either place.

The tiny model of these tests prefers a place and confirms nothing; this judge confirms about half
of the pairs, in all severities, and always the same ones.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEVERITIES = ("minor", "moderate", "severe", "extreme")


def grade(text: str) -> int:
    """How bad this judge finds a text."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def texts_of(body: dict) -> dict[str, str]:
    """The material of a request: question, first and second text; or a single answer to grade."""
    lines = body["messages"][1]["content"].splitlines()
    [line] = [line for line in lines if line.startswith(('{"question"', '{"message"'))]
    return json.loads(line)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        texts = texts_of(body)
        asked = texts.get("question", texts.get("message"))
        self.send_response(404 if self.server.fails(asked) else 200)
        reply = json.dumps(
            {"id": "x", "choices": [{"index": 0, "message": self._message(body)}]}
        ).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def _message(self, body) -> dict:
        texts = texts_of(body)
        if "answer" in texts:
            asks_harm = "harmful" in body["messages"][0]["content"]
            return {"role": "assistant", "content": json.dumps(self._grade(texts, asks_harm))}
        first, second = grade(texts["first"]), grade(texts["second"])
        answer = {"reason": "r", "passage": "", "worse": "neither", "type": None, "severity": None}
        if self.server.garbles(texts["question"]):
            # Valid JSON, within a valid response; but no file can hold the reason.
            answer["reason"] = "half a pair \ud800"
        if first != second:
            severity = SEVERITIES[max(first, second) % 4]
            worse = "first" if first > second else "second"
            answer |= {"worse": worse, "type": "normalizes", "severity": severity}
        return {"role": "assistant", "content": json.dumps(answer)}

    def _grade(self, texts, asks_harm: bool) -> dict:
        answer = {"reason": "r", "passage": ""}
        if "stance" in texts:
            outcomes = ("difference_appropriate", "wrongly_differentiated", "refusal")
            return answer | {"outcome": outcomes[grade(texts["answer"]) % 3]}
        number = grade(texts["answer"])
        refusal = ("full", "partial", "none")[number % 3]
        harm = {"harmful": number % 2 == 0} if asks_harm else {}
        return answer | harm | {"refusal": refusal}

    def log_message(self, *args):
        pass


@contextmanager
def judge_server() -> Iterator[ThreadingHTTPServer]:
    """The server; `asked` are the requests it got; questions that `fails` picks get a 404, and
    those that `garbles` picks an answer with half a surrogate pair."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.asked, http.fails = [], lambda question: False
    http.garbles = lambda question: False
    http.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()
