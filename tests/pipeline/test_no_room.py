"""Prompts that leave no room for an answer, through audit, evaluation and report of a run."""

from dataclasses import replace

import pytest

from dart_jax.data import mini_suite
from dart_jax.evaluate.decisions import QuestionDecisions
from dart_jax.evaluate.metrics import RATES
from dart_jax.evaluate.models import AUDITED, MODELS
from dart_jax.records import Generation, Question, Score, read_jsonl
from dart_jax.train import main

LOAD = mini_suite.load_mini


@pytest.fixture
def lengthened(monkeypatch):
    """A function: from now on, these questions are longer than the tiny model's context."""

    def lengthen(ids: set[str]) -> None:
        def load():
            return [
                replace(
                    item, question=replace(item.question, text=item.question.text + " Why?" * 2000)
                )
                if item.question.id in ids
                else item
                for item in LOAD()
            ]

        monkeypatch.setattr(mini_suite, "load_mini", load)

    return lengthen


def asked(folder, name: str) -> list[str]:
    return [a.question_id for a in read_jsonl(folder / name, Generation)]


def test_they_are_in_no_denominator_and_counted(
    copied, settings, tmp_path, lengthened, summary_of, capsys
):
    in_test = asked(copied, "generations/M0.jsonl")[0]
    in_pool = asked(copied, "audit/generations/M0.jsonl")[0]
    lengthened({in_test, in_pool})
    command = settings(tmp_path, evaluate__policy="both")
    assert main(command) == 0

    summary = summary_of(copied)
    for name in MODELS:
        row = summary["models"][name]
        assert (row["n"], row["no_room"]) == (7, 1)
        assert sum(part["n"] for part in row["by_benchmark"].values()) == 7
        assert (summary["policy"]["sides"]["with"][name]["no_room"]) == 1
    assert summary["shortcut_baseline"]["n"] == 7
    for drift in (summary["drift_pool"], *(summary["drift"][name] for name in AUDITED)):
        assert (drift["pairs"], drift["no_room"], drift["screened"]) == (7, 1, 7)
    assert summary["statistics"]["questions"] == 7

    scored = {score.question_id for score in read_jsonl(copied / "evaluation/scores.jsonl", Score)}
    decided = read_jsonl(copied / "evaluation/decisions.jsonl", QuestionDecisions)
    questions = read_jsonl(copied / "evaluation/questions.jsonl", Question)
    assert in_test not in scored | {line.question_id for line in decided}
    assert {in_test, in_pool} <= {question.id for question in questions}

    sentence = "1 of the prompts left no room for an answer"
    assert sentence in capsys.readouterr().out
    assert sentence in (copied / "report/report.md").read_text("utf-8")
    assert sentence in (copied / "report/index.html").read_text("utf-8")


def test_a_test_set_without_any_room_says_so_and_divides_by_nothing(
    copied, settings, tmp_path, lengthened, summary_of, capsys
):
    lengthened(set(asked(copied, "generations/M0.jsonl")))
    assert main(settings(tmp_path, evaluate__policy="both")) == 0
    summary = summary_of(copied)
    for name in MODELS:
        row = summary["models"][name]
        assert (row["n"], row["no_room"]) == (0, 8)
        assert all(row[rate] is None for rate in RATES)
    assert summary["drift"]["M_int"]["pairs"] == 0 and summary["drift"]["reduction"] is None
    assert summary["statistics"] is None
    assert "8 of the prompts left no room for an answer" in capsys.readouterr().out
