"""A service on the loopback device, and runs that have it as their teacher."""

import threading
from collections.abc import Iterator

import pytest

from tests.chat.loopback import Server
from tests.loopback_teacher import rationale


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    server.behave = rationale
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def taught(server, settings, tmp_path):
    """A function: the command line of a stage teach that asks the server."""

    def run(**overrides: object) -> list[str]:
        service = {
            "teacher.provider": "openai",
            "teacher.model": "m",
            "teacher.base_url": server.url,
            "teacher.concurrency": 2,
        }
        values = service | {key.replace("__", "."): value for key, value in overrides.items()}
        return [*settings(tmp_path, **values), "--stages=teach"]

    return run
