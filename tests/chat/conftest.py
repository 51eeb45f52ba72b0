"""A loopback chat server for the tests of the client."""

from collections.abc import Iterator

import pytest

from tests.chat.loopback import KEY, Server, running_server


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DART_TEST_KEY", KEY)
    with running_server() as server:
        yield server
