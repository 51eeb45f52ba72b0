"""A loopback chat server for the tests of the client."""

import threading
from collections.abc import Iterator

import pytest

from tests.chat.loopback import KEY, Server


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
