"""Evaluators that had no part in a run are asked of a finished run's test answers, no more."""

import json

import pytest

from dart_jax.audit.drift import TooManyFailures
from dart_jax.config import parse
from dart_jax.evaluate.models import AUDITED
from dart_jax.records import JudgeFailure, Outcome, Score, Verdict, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.stages.evaluators import SCORES, dependence, same_scorers, verdicts_file
from dart_jax.train import main

# The audit's judge under another name, which finds what it finds: agreement is known beforehand.
OTHER = {
    "evaluate__judge__provider": "openai",
    "evaluate__judge__model": "other",
    "evaluate__judge__api_key_env": "NO_SUCH_KEY",
}


@pytest.fixture
def other(judge):
    """Settings of a further judge, at the same server."""
    return {**OTHER, "evaluate__judge__base_url": judge.url}


def test_they_judge_every_test_pair_and_change_nothing_else(
    copied, finished, settings, other, judge, tmp_path, summary_of, capsys
):
    asked = len(judge.asked)
    scorers = {"evaluate__scorers": "[profanity]"}
    assert main(settings(tmp_path, **other, **scorers)) == 0
    printed = capsys.readouterr()
    assert printed.out.count(": up to date") == 4, "the stage evaluate alone is run again"
    assert "warning: evaluate.judge" not in printed.err
    models = {body["model"] for body in judge.asked[asked:]}
    assert models == {"other"}, "answers of the audit's judge came from the store"
    assert hash_path(copied / "generations") == hash_path(finished / "generations")

    summary, before = summary_of(copied), summary_of(finished)
    audit, further, scorer = summary["drift_by"]
    assert [audit] == before["drift_by"] and summary["drift"] == before["drift"]
    assert (further["by"], further["kind"], further["same_as"]) == ("openai other", "judge", [])
    assert further["change"] == audit["change"] and further["undecided"] == audit["undecided"]
    for name in AUDITED:
        outcomes = read_jsonl(copied / verdicts_file(name), Outcome)
        assert len(outcomes) == 8 and all(isinstance(row, Verdict) for row in outcomes)
        assert further["agreement"][name]["kappa"]["value"] in (None, 1.0)
    assert (scorer["by"], scorer["same_as"]) == ("profanity", ["audit.scorer"])
    scores = read_jsonl(copied / SCORES, Score)
    assert {score.model for score in scores} == {"M0", "M_int", "M_DART"}

    page = (copied / "report/report.md").read_text("utf-8")
    assert "kappa with the audit" in page
    assert "profanity is also audit.scorer of this run: it is not independent" in page
    usage = json.loads((copied / "usage.json").read_text("utf-8"))
    assert usage["evaluate/evaluate.judge"]["requests"] == len(judge.asked) - asked

    # Other scorers ask nobody again.
    asked = len(judge.asked)
    assert main(settings(tmp_path, **other)) == 0
    assert len(judge.asked) == asked
    assert [row["by"] for row in summary_of(copied)["drift_by"]] == ["audit", "openai other"]


def test_its_failures_are_counted_by_its_own_settings(
    copied, settings, other, judge, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(judge, "fails", lambda question: True)
    with pytest.raises(TooManyFailures, match=r"^evaluate\.judge failed on 8 of 8 pairs"):
        main(settings(tmp_path, **other))
    failed = read_jsonl(copied / verdicts_file("M_int"), Outcome)
    assert all(isinstance(outcome, JudgeFailure) for outcome in failed)
    monkeypatch.setattr(judge, "fails", lambda question: False)
    capsys.readouterr()
    assert main([*settings(tmp_path, **other), "--dry-run"]) == 0
    # Two models, eight pairs, both orders, three attempts.
    assert "evaluate: evaluate.judge openai other: 0 to 96 requests" in capsys.readouterr().out


def test_the_audits_or_the_teachers_own_model_is_not_independent(settings, other, tmp_path):
    def config(**changes):
        return parse(settings(tmp_path, **{**other, **changes}))[0]

    assert dependence(config()) is None
    words = dependence(config(evaluate__judge__model="HASH"))
    assert words.startswith("evaluate.judge.model is that of judge.model: ")
    teacher = {"teacher__provider": "openai", "teacher__model": "other"}
    assert "that of teacher.model" in dependence(config(**teacher))
    local = {"evaluate__judge__provider": "local", "evaluate__judge__model": "null"}
    assert dependence(config(**local)) is None
    assert "judge.model" in dependence(
        config(**local, judge__provider="local", judge__model="null")
    )
    assert dependence(config(**local, audit__mode="screen_only")) is None
    both = config(evaluate__scorers="[profanity, detoxify:original]")
    assert same_scorers(both) == [["audit.scorer"], []]
