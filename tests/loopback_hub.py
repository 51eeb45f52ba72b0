"""The Hugging Face hub on the loopback device: one repository, to the calls of its client."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Has at most one repository, and takes small files only, within commits.

    Attributes:
        files: Content by name; None while there is no repository.
        private: Whether only its owner sees it.
        refuses: A status to answer everything with; 0 for none.
        tokens: The Authorization header of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] | None = None
        self.private: bool | None = None
        self.refuses = 0
        self.tokens: list[str | None] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, b"")

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *args) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer by what the address ends in."""
        self.tokens.append(handler.headers["Authorization"])
        status, answer = (self.refuses, {}) if self.refuses else self._take(handler.path, body)
        encoded = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(encoded)))
        handler.end_headers()
        handler.wfile.write(encoded)

    def _take(self, path: str, body: bytes) -> tuple[int, object]:
        path = path.partition("?")[0]
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": name, **regular} for name in names]}
        if path.endswith("/commit/main"):
            return self._commit([json.loads(line) for line in body.splitlines()])
        if "/tree/" in path:
            return 200, [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
            ]
        return 200, {"id": "owner/name", "sha": "0" * 40, "private": self.private, "siblings": []}

    def _create(self, asked: dict) -> tuple[int, object]:
        url = f"{self.url}/owner/name"
        if self.files is not None:
            return 409, {"error": "it exists", "url": url}
        self.files = {}
        self.private = asked.get("private", asked.get("visibility") == "private")
        return 200, {"url": url, "name": "owner/name"}

    def _commit(self, lines: list[dict]) -> tuple[int, object]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        return 200, {"commitUrl": f"{self.url}/owner/name/commit/0", "commitOid": "0" * 40}


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.http.shutdown()
        hub.http.server_close()
        thread.join()
