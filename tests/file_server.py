"""A web server on the loopback device that serves bytes from memory, and misbehaves on request."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` by their paths; knows byte ranges unless told otherwise.

    Attributes:
        files: Content by path, such as `/folder/name`.
        cut_after: Bytes after which every answer breaks off.
        ranges: Whether a request for the rest of a file is answered with the rest.
        asked: Each request as (method, path, its Range header).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.cut_after: int | None = None
        self.ranges = True
        self.asked: list[tuple[str, str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                server.answer(self, with_body=False)

            def do_GET(self) -> None:
                server.answer(self, with_body=True)

            def log_message(self, *args) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, with_body: bool) -> None:
        path = handler.path.partition("?")[0]
        wanted = handler.headers["Range"]
        self.asked.append((handler.command, path, wanted))
        if path not in self.files:
            handler.send_error(404)
            return

        content, start = self.files[path], 0
        if wanted and self.ranges:
            start = int(re.match(r"bytes=(\d+)-", wanted)[1])
        if start >= len(content) and start:
            handler.send_error(416)
            return
        body = content[start:]
        handler.send_response(206 if wanted and self.ranges else 200)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in self.headers.get(path, {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if with_body:
            handler.wfile.write(body[: self.cut_after])

    def add_model(self, name: str, files: dict[str, bytes]) -> None:
        """Serve a model as the Hugging Face hub does, by the addresses that its client asks for."""
        commit = "0123456789" * 4
        tree = []
        for number, (file, content) in enumerate(files.items()):
            tree.append(
                {"type": "file", "path": file, "size": len(content), "oid": f"{number:040d}"}
            )
            path = f"/{name}/resolve/{commit}/{file}"
            self.files[path] = content
            self.headers[path] = {"ETag": f'"{number:040d}"', "X-Repo-Commit": commit}
        model = f"/api/models/{name}"
        self.files[f"{model}/revision/main"] = json.dumps({"id": name, "sha": commit}).encode()
        self.files[f"{model}/tree/{commit}"] = json.dumps(tree).encode()


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve until the block ends."""
    server = FileServer()
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
