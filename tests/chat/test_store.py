"""The response store: what is in it survives, and nothing else gets in."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dart_jax.chat.store import (
    BadStore,
    ResponseStore,
    copy_answers,
    request_key,
    stored_answers,
)
from dart_jax.chat.usage import Usage

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
store.put("key", {"text": "caf\\u00e9"}, prompt_tokens=3, completion_tokens=2).result()
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
        store.put("key", {"text": text}, prompt_tokens=1, completion_tokens=1).result()
    assert store.get("key") == {"text": "first"}
    assert store.token_use() == (1, 1)


def test_threads_and_a_second_connection_share_the_file(tmp_path):
    path = tmp_path / "s.sqlite"
    stores = [ResponseStore(path), ResponseStore(path)]

    def write(worker: int) -> None:
        for item in range(10):
            store = stores[worker % 2]
            store.put(
                f"{worker}-{item}", {"n": item}, prompt_tokens=1, completion_tokens=0
            ).result()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [stores[0].get(f"{w}-{i}") for w in range(4) for i in range(10)]
    assert found == [{"n": i} for _ in range(4) for i in range(10)]
    assert stores[1].token_use() == (40, 0)


def test_a_failure_is_counted_and_is_no_answer(tmp_path):
    store = ResponseStore(tmp_path / "s.sqlite")
    store.fail("a", "empty completion", 1).result()
    store.fail("a", "RateLimitError 429", 5).result()
    store.fail("b", "empty completion", 2).result()
    assert store.get("a") is None
    assert store.failures() == {"a": ("RateLimitError 429", 6), "b": ("empty completion", 2)}
    store.put("b", {}, prompt_tokens=1, completion_tokens=1).result()
    assert store.failure_counts() == {"RateLimitError 429": 1}
    assert store.keys() == {"b"}


def test_usage_is_committed_with_its_answer(tmp_path):
    path = tmp_path / "s.sqlite"
    with ResponseStore(path) as store:
        spent = Usage(requests=2, answers=1, prompt_tokens=5, completion_tokens=3, cost_usd=0.25)
        store.put(
            "a", {}, prompt_tokens=5, completion_tokens=3, account="x/y", spent=spent
        ).result()
        store.fail("b", "no", 3, account="x/y", spent=Usage(requests=3, failures=1)).result()
        store.charge("z", Usage(stored=4))
    with ResponseStore(path) as again:
        assert again.usage() == {
            "x/y": Usage(5, 1, 1, 0, 5, 3, 0.25),
            "z": Usage(stored=4),
        }
        again.charge("x/y", Usage(cost_usd=None))
        again.charge("x/y", spent)
        assert again.usage()["x/y"].cost_usd is None, "once unknown, the sum is unknown"


def test_a_store_of_version_1_keeps_its_answers(tmp_path):
    path = tmp_path / "s.sqlite"
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE responses (key TEXT PRIMARY KEY, response TEXT NOT NULL, prompt_tokens"
        " INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, stored_at REAL NOT NULL)"
    )
    old.execute("INSERT INTO responses VALUES ('a', '{\"n\": 1}', 7, 3, 0.0)")
    old.commit()
    old.close()
    store = ResponseStore(path)
    assert store.get("a") == {"n": 1} and store.usage() == {} and store.failures() == {}
    store.fail("b", "no", 1).result()
    assert ResponseStore(path).keys() == {"a"}


def test_a_newer_store_and_another_file_are_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(BadStore, match=r"s\.sqlite was written by a newer version"):
        ResponseStore(path)
    path.write_text("no database at all, but long enough to be taken for a file of that kind" * 9)
    with pytest.raises(BadStore, match=r"s\.sqlite is no response store"):
        ResponseStore(path)


def test_answers_are_read_without_writing(tmp_path):
    path = tmp_path / "s.sqlite"
    with stored_answers(path) as get:
        assert get("a") is None and not path.exists()
    with ResponseStore(path) as store:
        store.put("a", {"text": "b"}, prompt_tokens=1, completion_tokens=1).result()
        with stored_answers(path) as get:
            assert get("a") == {"text": "b"} and get("b") is None
    before = path.read_bytes()
    with stored_answers(path) as get:
        assert get("a") == {"text": "b"}
    assert path.read_bytes() == before


def test_answers_are_copied_and_what_they_took_is_not(tmp_path):
    source, target = tmp_path / "a.sqlite", tmp_path / "new/b.sqlite"
    copy_answers(source, target)
    assert not target.exists()
    with ResponseStore(source) as store:
        spent = Usage(requests=1, answers=1, prompt_tokens=3, completion_tokens=2)
        for key in ("both", "new"):
            counts = {"prompt_tokens": 3, "completion_tokens": 2}
            store.put(key, {"text": "theirs"}, **counts, account="x", spent=spent).result()
        store.fail("failed", "timed out", 1).result()
    with ResponseStore(target) as store:
        store.put("both", {"text": "ours"}, prompt_tokens=1, completion_tokens=1).result()
    copy_answers(source, target)
    with ResponseStore(target) as store:
        assert store.get("both") == {"text": "ours"}
        assert store.get("new") == {"text": "theirs"}
        assert store.usage() == {} and store.failures() == {}
    with ResponseStore(source) as store:
        assert store.keys() == {"both", "new"}


def with_answer(path: Path, text: str | bytes) -> ResponseStore:
    """A store whose one answer is these bytes, as a crash of the machine may leave them."""
    with ResponseStore(path) as store:
        store.put("a", {"n": 1}, prompt_tokens=1, completion_tokens=1).result()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE responses SET response = CAST(? AS TEXT)", (text,))
    return ResponseStore(path)


@pytest.mark.parametrize(
    "damaged", ["", "{", '{"n": 1', b"\xff\xfe", b'{"n": "\xff"}', "[" * 100_000, "null", "[1]"]
)
def test_a_stored_answer_that_is_not_json_is_none_and_can_be_stored_anew(tmp_path, damaged):
    with with_answer(tmp_path / "s.sqlite", damaged) as store:
        assert store.get("a") is None
        assert store.failures() == {"a": ("the stored answer: it is no JSON object", 1)}
        store.put("a", {"n": 2}, prompt_tokens=1, completion_tokens=1).result()
        assert store.get("a") == {"n": 2} and store.failures() == {}


def test_a_discarded_answer_is_a_failure_and_only_an_answer_is_discarded(tmp_path):
    with ResponseStore(tmp_path / "s.sqlite") as store:
        store.put("a", {"n": 1}, prompt_tokens=3, completion_tokens=2).result()
        store.fail("b", "timed out", 2).result()
        for key in ("a", "b", "nothing"):
            store.discard(key, "of no use").result()
        assert store.get("a") is None and store.token_use() == (0, 0)
        assert store.failures() == {"a": ("of no use", 1), "b": ("timed out", 2)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-5000],
        lambda whole: whole[:8192] + bytes(4096) + whole[12288:],
        lambda whole: b"SQLite format 3\0" + b"x" * 9000,
    ],
    ids=["half", "short", "hole", "head only"],
)
def test_a_damaged_file_is_refused_by_name_before_anything_is_asked(tmp_path, damage):
    path = tmp_path / "s.sqlite"
    with ResponseStore(path) as store:
        for number in range(40):
            answer = {"text": "x" * 500}
            store.put(str(number), answer, prompt_tokens=1, completion_tokens=1).result()
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    for use in (ResponseStore, lambda path: copy_answers(path, tmp_path / "new.sqlite")):
        with pytest.raises(BadStore, match=r"s\.sqlite is no response store, or a damaged one"):
            use(path)
    assert path.read_bytes() == before, "it may still be of use to somebody"


def test_an_answer_of_a_file_that_is_no_store_is_an_error_with_its_name(tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_text("no database")
    with stored_answers(path) as get, pytest.raises(BadStore, match=r"s\.sqlite is no response"):
        get("a")


@pytest.mark.parametrize("odd", ["half \ud800", "pair \U0001f600", "zero \x00 end", "\u2028"])
def test_odd_characters_come_back_as_they_were(tmp_path, odd):
    with ResponseStore(tmp_path / "s.sqlite") as store:
        store.put("a", {odd: [odd]}, prompt_tokens=1, completion_tokens=1).result()
        assert store.get("a") == {odd: [odd]}


def test_a_locked_store_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("dart_jax.chat.database.WAIT_SECONDS", 0.1)
    path = tmp_path / "responses.sqlite"
    ResponseStore(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BadStore, match=r"sqlite cannot be used \(database is locked\)"):
            ResponseStore(path)
    ResponseStore(path).close()


def test_a_store_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "responses.sqlite").mkdir()
    with pytest.raises(BadStore, match=r"responses\.sqlite cannot be used"):
        ResponseStore(tmp_path / "responses.sqlite")
