"""The response store: what is in it survives, and nothing else gets in."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from dart_jax.chat.store import ResponseStore, request_key

BASE = {
    "endpoint": "http://127.0.0.1:1/v1/",
    "model": "m",
    "messages": ({"role": "user", "content": "hi"},),
    "parameters": {"temperature": 0.2, "max_tokens": 8},
    "json_schema": None,
}

WRITER = """
import os, signal, sys
from pathlib import Path
from dart_jax.chat.store import ResponseStore
store = ResponseStore(Path(sys.argv[1]))
store.put("key", {"text": "caf\\u00e9"}, prompt_tokens=3, completion_tokens=2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_every_part_of_a_request_is_in_its_key():
    changes = [
        {"endpoint": "http://127.0.0.1:2/v1/"},
        {"model": "n"},
        {"messages": ({"role": "system", "content": "hi"},)},
        {"parameters": {"temperature": 0.3, "max_tokens": 8}},
        {"json_schema": {"type": "object"}},
        {"schema_version": 99},
    ]
    keys = {request_key(**(BASE | change)) for change in [{}, *changes]}
    assert len(keys) == 1 + len(changes)
    assert request_key(**BASE) == request_key(**BASE)


def test_an_answer_outlives_sigkill_right_after_put(tmp_path):
    path = tmp_path / "store" / "responses.sqlite"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], env=environment, timeout=60)
    assert done.returncode == -signal.SIGKILL
    store = ResponseStore(path)
    assert store.get("key") == {"text": "café"}
    assert store.token_use() == (3, 2)


def test_an_unknown_key_is_none(tmp_path):
    assert ResponseStore(tmp_path / "s.sqlite").get("nothing") is None


def test_the_first_answer_stays(tmp_path):
    store = ResponseStore(tmp_path / "s.sqlite")
    for text in ("first", "second"):
        store.put("key", {"text": text}, prompt_tokens=1, completion_tokens=1)
    assert store.get("key") == {"text": "first"}
    assert store.token_use() == (1, 1)


def test_threads_and_a_second_connection_share_the_file(tmp_path):
    path = tmp_path / "s.sqlite"
    stores = [ResponseStore(path), ResponseStore(path)]

    def write(worker: int) -> None:
        for item in range(10):
            store = stores[worker % 2]
            store.put(f"{worker}-{item}", {"n": item}, prompt_tokens=1, completion_tokens=0)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [stores[0].get(f"{w}-{i}") for w in range(4) for i in range(10)]
    assert found == [{"n": i} for _ in range(4) for i in range(10)]
    assert stores[1].token_use() == (40, 0)
