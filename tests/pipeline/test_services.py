"""Stages that ask a service: budgets, resuming, what was spent."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

from dart_jax.chat.budget import BudgetReached
from dart_jax.chat.store import ResponseStore
from dart_jax.chat.usage import read_usage
from dart_jax.records import Target, read_jsonl
from dart_jax.train import command, main
from tests.loopback_teacher import rationale

PRICES = {"teacher.limits.price_prompt": 2, "teacher.limits.price_completion": 10}


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
