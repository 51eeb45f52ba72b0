"""Stages that ask a service: budgets, resuming, what was spent, and the dry run."""

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from dart_jax.chat.budget import BudgetReached
from dart_jax.chat.store import ResponseStore
from dart_jax.chat.usage import read_usage
from dart_jax.records import Target, read_jsonl
from dart_jax.train import command, main
from tests.chat.loopback import Server, said

PRICES = {"teacher.limits.price_prompt": 2, "teacher.limits.price_completion": 10}


def rationale(number: int, body: dict) -> tuple[int, dict]:
    """A target that every check accepts, behind a draft in a reasoning block."""
    wanted = re.findall(r"Conclusion: (YES|NO)", body["messages"][-1]["content"])[-1]
    text = "The question turns on one fact. That fact decides what follows for each group."
    draft = "<think>They are vermin, or not.\nConclusion: NO\nOr:\nConclusion: YES\n</think>"
    return 200, said(f"{draft}\n\n{text}\nConclusion: {wanted}")


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


def test_a_budget_stops_the_stage_which_goes_on_later(taught, server, tmp_path, capsys):
    with pytest.raises(BudgetReached, match=r"teach/teacher: limits\.max_requests 3"):
        main(taught(teacher__limits__max_requests=3))
    usage = read_usage(tmp_path / "run/usage.json")["teach/teacher"]
    assert (usage.requests, usage.answers, usage.cost_usd) == (3, 3, None)
    assert len((tmp_path / "run/teach/targets.jsonl").read_text().splitlines()) == 3
    assert main(taught()) == 0
    assert len(server.bodies) == 8, "eight questions, and none was asked twice"
    usage = read_usage(tmp_path / "run/usage.json")["teach/teacher"]
    assert (usage.requests, usage.answers, usage.prompt_tokens) == (8, 8, 56)
    targets = read_jsonl(tmp_path / "run/teach/targets.jsonl", Target)
    assert len(targets) == 8
    assert all(re.fullmatch(r"The.*group\.\nConclusion: \w+", t.completion) for t in targets)
    with closing(sqlite3.connect(tmp_path / "run/responses.sqlite")) as store:
        kept = [row[0] for row in store.execute("SELECT response FROM responses")]
    assert len(kept) == 8 and all("<think>They are vermin" in response for response in kept)
    assert main(taught(teacher__limits__max_requests=1)) == 0, "limits are no input of a stage"
    assert "teach: up to date" in capsys.readouterr().out


def test_the_command_says_stopped(taught, monkeypatch, capsys):
    arguments = ["train", *taught(teacher__limits__max_requests=2)]
    monkeypatch.setattr("sys.argv", arguments)
    assert command() == 1
    message = capsys.readouterr().err
    assert "stopped: teach/teacher: limits.max_requests 2" in message
    assert "start the same command again" in message


def test_spending_is_priced(taught, tmp_path):
    main(taught(**PRICES))
    usage = read_usage(tmp_path / "run/usage.json")["teach/teacher"]
    assert usage.cost_usd == pytest.approx(8 * (7 * 2 + 3 * 10) / 1e6)


def test_a_dry_run_sends_and_writes_nothing(taught, server, tmp_path, capsys):
    assert main([*taught(**PRICES, teacher__limits__max_requests=10), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not server.bodies and not (tmp_path / "run").exists()
    assert "teach: teacher openai m: 8 to 24 requests" in printed
    assert "6,144 completion tokens" in printed and "estimated" in printed
    assert "teacher.limits.max_requests 10 may stop it" in printed
    found = re.search(r"at most ([\d,]+) prompt and .*, ([\d.]+) US dollars", printed)
    prompt, dollars = int(found[1].replace(",", "")), float(found[2])
    assert dollars == pytest.approx((prompt * 2 + 6144 * 10) / 1e6, abs=0.006)


def test_the_dry_run_bounds_what_is_sent(taught, server, tmp_path, capsys):
    main([*taught(teacher__correction_rounds=0), "--dry-run"])
    printed = capsys.readouterr().out
    assert "teach: teacher openai m: 8 requests" in printed
    bound = int(re.search(r"at most ([\d,]+) prompt", printed)[1].replace(",", ""))
    main(taught(teacher__correction_rounds=0))
    assert len(server.bodies) == 8
    sent = sum(len(m["content"]) for body in server.bodies for m in body["messages"])
    assert sent / 3 <= bound <= sent / 2.5


def test_the_dry_run_knows_what_is_stored_and_done(taught, server, tmp_path, capsys):
    with pytest.raises(BudgetReached):
        main(taught(teacher__limits__max_requests=3))
    capsys.readouterr()
    main([*taught(), "--dry-run"])
    assert "5 to 21 requests (3 more have a stored answer)" in capsys.readouterr().out
    main(taught())
    capsys.readouterr()
    main([*taught(), "--dry-run"])
    assert "all: at most 0 requests, at most 0.00 US dollars" in capsys.readouterr().out
    assert len(server.bodies) == 8


def test_the_dry_run_of_every_stage(taught, tiny_model, server, capsys):
    service = {"judge.provider": "openai", "judge.model": tiny_model, "judge.base_url": server.url}
    everything = [part for part in taught(**service) if not part.startswith("--stages")]
    main([*everything, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        *("teach", "distill", "audit", "repair", "evaluate", "all")
    ]
    audit = next(line for line in lines if line.startswith("audit"))
    assert f"counted by the tokenizer of {tiny_model}" in audit
    # Eight pairs, in both orders, three attempts; as often again for each model of the evaluation.
    assert "0 to 48 requests" in audit
    assert "0 to 96 requests" in next(line for line in lines if line.startswith("evaluate"))
    # Two correction rounds, and one more for a target that is no safer.
    assert "0 to 32 requests" in next(line for line in lines if line.startswith("repair"))
    assert not server.bodies


def requests_of(printed: str) -> dict[str, str]:
    """`8 to 32` by step."""
    counted = re.compile(r"^(\w+): \w+ \w+ \S+: ([\d,]+(?: to [\d,]+)?) requests", re.MULTILINE)
    return dict(counted.findall(printed))


def test_the_dry_run_knows_cycles_predicted_labels_and_that_no_judge_is_asked(
    taught, server, capsys
):
    options = {"teacher.label": "predicted", "repair.cycles": 2, "judge.base_url": server.url}
    everything = [part for part in taught(**options) if not part.startswith("--stages")]
    main([*everything, "--dry-run"])
    assert requests_of(capsys.readouterr().out) == {
        "teach": "8 to 32",  # a label for each question, and then perhaps a target
        **{"audit": "0 to 48", "repair": "0 to 40", "audit_2": "0 to 48", "repair_2": "0 to 40"},
        "evaluate": "0 to 144",
    }
    main([*everything, "--audit.mode=screen_only", "--dry-run"])
    assert requests_of(capsys.readouterr().out).keys() == {"teach", "repair", "repair_2"}
    main([*everything, "--stages=teach,distill,audit", "--dry-run"])
    assert requests_of(capsys.readouterr().out).keys() == {"teach", "audit"}
    assert not server.bodies


def test_the_dry_run_leaves_out_what_is_done(copied, settings, capsys):
    main([*settings(copied.parent), "--dry-run"])
    assert "all: at most 0 requests" in capsys.readouterr().out
    main([*settings(copied.parent, repair__epochs=3), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["repair", "evaluate", "all"]


def test_no_key_in_the_run_folder(taught, server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    server.behave = lambda n, b: (500, {"error": {"message": "you sent sk-canary-0123456789"}})
    with pytest.raises(RuntimeError, match="all rejected") as stopped:
        main(taught(teacher__correction_rounds=0, teacher__limits__max_retries=0))
    assert server.keys[0] == "Bearer sk-canary-0123456789"
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"rejected.jsonl", "responses.sqlite", "config.yaml"} <= {path.name for path in files}
    assert not [path for path in files if b"canary" in path.read_bytes()]
    assert "canary" not in str(stopped.value)
    assert "[key]" in (tmp_path / "run/teach/rejected.jsonl").read_text()
    assert json.loads((tmp_path / "run/usage.json").read_text())["teach/teacher"]["failures"] == 8


def test_failures_are_counted_and_asked_again(taught, server, tmp_path):
    server.behave = lambda n, b: (500, {}) if n < 3 else rationale(n, b)
    main(taught(teacher__correction_rounds=0, teacher__limits__max_retries=0))
    with ResponseStore(tmp_path / "run/responses.sqlite") as store:
        assert sum(store.failure_counts().values()) == 3
        assert len(store.keys()) == 5
