"""The bench of the chat client: what it reports, at a size that takes seconds."""

import time

import pytest

from dart_jax.bench import client
from dart_jax.bench.options import ClientOptions
from dart_jax.chat.endpoint import resolve_endpoint
from dart_jax.chat.store import ResponseStore


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_it_measures_ours_and_the_library(capsys):
    result = client.run(ClientOptions(requests=96, concurrency=32, latency=0.2))
    assert result["ideal_requests_per_second"] == 160
    for name in ("ours", "openai_library_alone"):
        found = result[name]
        assert 0 < found["share_of_ideal"] <= 1.001
        assert found["share_of_ideal"] == pytest.approx(found["requests_per_second"] / 160, 1e-3)
        assert found["overhead_ms"] > -5 and found["cpu_ms"] > 0
    assert "of 160.0" in capsys.readouterr().out


def test_the_server_takes_its_time(tmp_path):
    with client.slow_server(0.1) as address, ResponseStore(tmp_path / "s.sqlite") as store:
        started = time.perf_counter()
        ends = client.ask_ours(resolve_endpoint("openai", address, None), store)(6, 1)
    # One at a time, each sleeps 0.1 s: less than that is impossible, however busy the machine.
    assert len(ends) == 6 and time.perf_counter() - started >= 0.6
