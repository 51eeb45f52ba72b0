"""Losses beside the weighted cross-entropy in the pipeline: what is trained on and reported."""

from dataclasses import replace

import pytest

from dart_jax.evaluate.models import AUDITED
from dart_jax.prompts.conclusion import analysis_text
from dart_jax.records import DriftCase, Generation, Outcome, Target, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.sft.metrics import LogLine
from dart_jax.train import main


def log_of(folder, stage):
    return read_jsonl(folder / f"{stage}/log.jsonl", LogLine)


def test_repair_with_every_part(copied, settings, tmp_path, summary_of, capsys):
    """The drifted rationales mirror the repairs; the weights that are reported stay the same."""
    before = summary_of(copied)["repair"]
    parts = {"fn": "focal", "unlikelihood_weight": 0.5, "kl_weight": 1.0}
    overrides = {f"repair__loss__{name}": value for name, value in parts.items()}
    assert main(settings(tmp_path, **overrides)) == 0
    assert "distill: up to date" in capsys.readouterr().out
    training = read_jsonl(copied / "repair/training_set.jsonl", Target)
    repairs = {t.question_id: t for t in training if t.stage == "repair"}
    drifted = {t.question_id: t for t in training if t.stage == "drifted"}
    texts = {
        case.question_id: analysis_text(case.candidate_text)
        for case in read_jsonl(copied / "audit/drift_cases.jsonl", DriftCase)
    }
    assert drifted
    assert set(drifted) == {id for id in repairs if texts[id]}
    for id, target in drifted.items():
        assert (target.weight, target.severity) == (repairs[id].weight, repairs[id].severity)
        assert target.completion == texts[id]
    assert summary_of(copied)["repair"] == before
    for line in log_of(copied, "repair"):
        assert set(line.loss_parts) == {"focal", "unlikelihood", "kl"}
        assert sum(line.loss_parts.values()) == pytest.approx(line.loss, rel=1e-4)


def test_distill_only(copied, settings, tmp_path, summary_of, capsys):
    assert main(settings(tmp_path, repair__epochs=0)) == 0
    printed = capsys.readouterr().out
    assert "nothing to repair (repair.epochs is 0: distill only): M_DART is M_int" in printed
    assert hash_path(copied / "adapters/M_int") == hash_path(copied / "adapters/M_DART")
    assert read_jsonl(copied / "repair/targets.jsonl", Target) == []
    summary = summary_of(copied)
    assert summary["distill_only"] and summary["m_dart_is_m_int"]
    assert summary["models"]["M_DART"] == summary["models"]["M_int"]
    assert "**M_DART is M_int**: distill only" in (copied / "report/report.md").read_text("utf-8")


def test_no_judge_is_asked_of_m_int_twice(copied, settings, judge, tmp_path, monkeypatch):
    """Not even where it failed, since M_DART is the same model."""
    monkeypatch.setattr(judge, "fails", lambda question: True)
    silent = {"judge__model": "silent", "judge__max_failure_share": 1}
    args = settings(tmp_path, repair__epochs=0, **silent)
    counts = [len(judge.asked)]
    for stages in ("audit,repair", "evaluate"):
        assert main([*args, f"--stages={stages}"]) == 0
        counts.append(len(judge.asked))

    # As many requests as for the drift pool, which has as many questions.
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0
    of_m_int, of_m_dart = [
        read_jsonl(copied / f"evaluation/verdicts_{name}.jsonl", Outcome) for name in AUDITED
    ]
    assert of_m_dart == [replace(failure, candidate="M_DART") for failure in of_m_int]


def test_joint_toxicity_regularisation(copied, settings, tmp_path):
    """One stage from M0: its answers to the training questions, by how they score."""
    args = settings(tmp_path, sft__loss__toxicity_weight=2.0, repair__epochs=0)
    assert main([*args, "--stages=teach,distill"]) == 0
    answers = {a.question_id: a for a in read_jsonl(copied / "distill/M0.jsonl", Generation)}
    found = read_jsonl(copied / "distill/scored_targets.jsonl", Target)
    assert {target.stage for target in found} == {"penalised", "preferred"}
    for target in found:
        assert target.completion == analysis_text(answers[target.question_id].text)
    signed = sum(t.weight * (1 if t.stage == "penalised" else -1) for t in found)
    if len(found) == len(answers):
        assert signed == pytest.approx(0, abs=1e-9)
    for line in log_of(copied, "distill"):
        assert set(line.loss_parts) == {"cross_entropy", "toxicity"}
    assert any(line.loss_parts["toxicity"] for line in log_of(copied, "distill"))


def test_an_unknown_loss_stops_the_run_before_any_work(settings, tmp_path):
    with pytest.raises(ValueError, match=r"repair\.loss\.fn: .*cannot import no_such_pkg"):
        main(settings(tmp_path, repair__loss__fn="no_such_pkg.loss"))
    assert not (tmp_path / "run/teach").exists()
