"""600 requests through a proxy that fails a third of them, and a SIGKILL in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from dart_jax.chat.openai_client import answer_key
from dart_jax.chat.store import ResponseStore
from tests.chat.client_process import question
from tests.chat.fault_proxy import RATES, FaultProxy, completion
from tests.chat.loopback import Server

COUNT = 600
KILLED_AFTER = 250
ROOT = Path(__file__).parents[2]
QUESTIONS = [question(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def proxy():
    """In front of a server that repeats the question."""
    upstream = Server()

    def repeat(number: int, body: dict) -> tuple[int, bytes]:
        return 200, completion(f"answer to {body['messages'][0]['content']}")

    upstream.behave = repeat
    proxy = FaultProxy(upstream.url, RATES)
    servers = (upstream.http, proxy.http)
    threads = [threading.Thread(target=http.serve_forever, args=(0.02,)) for http in servers]
    for thread in threads:
        thread.start()
    yield proxy
    for http, thread in zip(servers, threads, strict=True):
        http.shutdown()
        http.server_close()
        thread.join()


def start(proxy: FaultProxy, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.chat.client_process", proxy.url, folder, COUNT]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen([str(part) for part in command], cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def story(proxy, tmp_path_factory):
    """What was on the disk after the kill, a second run, and a third one without faults."""
    folder = tmp_path_factory.mktemp("faults")
    found = {"folder": folder, "ends": []}

    def note() -> None:
        found["ends"].append((len(proxy.seen), stored(folder, proxy), failed(folder)))

    client = start(proxy, folder)
    proxy.wait_for(KILLED_AFTER)
    client.send_signal(signal.SIGKILL)
    assert client.wait(60) == -signal.SIGKILL
    found["used"] = used(folder)
    note()
    assert start(proxy, folder).wait(240) == 0
    note()
    proxy.rates = {}
    assert start(proxy, folder).wait(240) == 0
    note()
    return found


def stored(folder: Path, proxy: FaultProxy) -> set[str]:
    """The requests that the store has answers to."""
    named = {answer_key(f"{proxy.url}/", "m", question): question.id for question in QUESTIONS}
    with ResponseStore(folder / "store.sqlite") as store:
        keys = store.keys()
    return {named[key] for key in keys}


def failed(folder: Path) -> Counter[str]:
    with ResponseStore(folder / "store.sqlite") as store:
        return Counter(reason for reason, _ in store.failures().values())


def used(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "results.txt").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines]


def test_the_kill_came_in_the_middle(story):
    (_, stored, _), _, _ = story["ends"]
    assert KILLED_AFTER / 2 < len(stored) < COUNT - 100


def test_what_was_used_had_been_stored(story):
    (_, stored, _), _, _ = story["ends"]
    replied = {item for item, kind in story["used"] if kind == "ChatReply"}
    assert replied and replied <= stored


def test_what_has_an_answer_is_not_asked_again(story, proxy):
    for before, after in zip(story["ends"], story["ends"][1:], strict=False):
        asked = {seen.item for seen in proxy.seen[before[0] : after[0]]}
        assert not asked & before[1]


def test_nothing_is_lost(story, proxy):
    _, (_, stored, failures), (_, all_stored, no_failures) = story["ends"]
    assert len(stored) + failures.total() == COUNT
    assert failures.total() > 0 and len(all_stored) == COUNT and not no_failures
    last = dict(used(story["folder"]))
    assert last == {question.id: "ChatReply" for question in QUESTIONS}


def test_the_third_run_asks_for_the_failures_only(story, proxy):
    _, (seen, stored, _), (end, _, _) = story["ends"]
    asked = {seen.item for seen in proxy.seen[seen:end]}
    assert asked == {question.id for question in QUESTIONS} - stored


def test_each_answer_is_the_one_to_its_question(story, proxy):
    with ResponseStore(story["folder"] / "store.sqlite") as store:
        for question in QUESTIONS:
            response = store.get(answer_key(f"{proxy.url}/", "m", question))
            text = response["choices"][0]["message"]["content"]
            right = f"answer to {question.messages[0]['content']}"
            assert text in (right, '{"unexpected": [1, 2]}')


def test_every_fault_has_happened_and_is_counted(story, proxy):
    counts = proxy.counts()
    assert set(counts) == {"passed", *RATES}
    with ResponseStore(story["folder"] / "store.sqlite") as store:
        usage = store.usage()["teach/teacher"]
        assert usage.answers == COUNT
    # What was in flight when the client was killed is in no account.
    assert 0 <= len(proxy.seen) - usage.requests <= 64
    report = {
        "requests seen": len(proxy.seen),
        "by fate": counts,
        "stored at the kill": len(story["ends"][0][1]),
        "stored, second run": len(story["ends"][1][1]),
        "failures, second run": story["ends"][1][2],
        "stored, third run": len(story["ends"][2][1]),
    }
    print(json.dumps(report, indent=1))
