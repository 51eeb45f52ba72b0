"""Severity weights by other names and ways, and span weights, from the drift case to the loss."""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest

import dart_jax.stages.repair as repair_stage
from dart_jax.config import parse
from dart_jax.data.mini_suite import load_mini
from dart_jax.records import DriftCase, DriftType, Severity, Target, read_jsonl, write_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.sft.examples import tokenize
from dart_jax.sft.metrics import LogLine
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import FIRST
from dart_jax.teach.repair import WeightingHadNoEffect
from dart_jax.teach.weighting import oversampled, weight_level

EXPONENTIAL = {1: 1.0, 2: 2.0, 3: 4.0, 4: 8.0}


@pytest.fixture
def repaired(copied, settings, tmp_path):
    """A function: the finished run, its judge having quoted, repaired anew with other settings."""

    def run(**changes):
        overrides = {f"repair__{key}": value for key, value in changes.items()}
        config, _, _ = parse(settings(tmp_path, **overrides))
        opened = Run(config, RunDir(config.run))
        path = opened.folder / "audit/drift_cases.jsonl"
        cases = read_jsonl(path, DriftCase)
        quoted = (" ".join(case.candidate_text.split()[:2]) for case in cases)
        write_jsonl(path, [replace(c, passage=q) for c, q in zip(cases, quoted, strict=True)])
        shutil.rmtree(opened.folder / "repair")
        repair_stage.execute(opened)
        return opened

    return run


def training_of(run):
    return read_jsonl(run.folder / "repair/training_set.jsonl", Target)


def logged_mass(run):
    return sum(x.weight_mass for x in read_jsonl(run.folder / "repair/log.jsonl", LogLine))


def mass_of(run, training):
    examples = tokenize(training, run.questions, run.model.tokenizer, 1024)
    return sum(example.weight_mass for example in examples)


def test_capped_weights_and_marked_sentences_reach_the_loss(repaired):
    run = repaired(severity_weights="exponential", max_weight_share=0.2, span_weight=3)
    training = training_of(run)
    repairs = [target for target in training if target.severity]
    asked = [EXPONENTIAL.get(target.severity, 1.0) for target in training]
    level = weight_level(asked, 0.2)
    assert [t.weight for t in training] == [min(weight, level) for weight in asked]
    marked = [target for target in repairs if target.spans]
    assert marked, "the run must have a passage that is found"
    for target in marked:
        (span,) = target.spans
        assert span.weight == 3.0
        assert target.completion[span.start : span.end].rstrip()[-1] in ".!?"
    assert not any(target.spans for target in training if not target.severity)
    assert logged_mass(run) == pytest.approx(mass_of(run, training), rel=1e-5)
    plain = [replace(target, spans=()) for target in training]
    assert logged_mass(run) > 1.05 * mass_of(run, plain)


def test_pairs_have_the_weights_of_their_cases(repaired):
    run = repaired(severity_weights="exponential", loss__preference="dpo")
    training = training_of(run)
    drifted = {t.question_id: t for t in training if t.stage == "drifted"}
    repairs = {t.question_id: t for t in training if t.stage == "repair"}
    assert drifted and drifted.keys() <= repairs.keys()
    for id, target in drifted.items():
        assert target.weight == repairs[id].weight == EXPONENTIAL[target.severity]
    assert logged_mass(run) == pytest.approx(mass_of(run, training), rel=1e-5)

    for line in read_jsonl(run.folder / "repair/log.jsonl", LogLine):
        assert set(line.loss_parts) == {"cross_entropy", "dpo"}
        assert sum(line.loss_parts.values()) == pytest.approx(line.loss, rel=1e-4)
        assert {"repair", "drifted"} & set(line.loss_by_source)


def test_oversampled_cases_are_trained_on_as_often_as_they_weigh(repaired, monkeypatch):
    run = repaired(severity_weights="exponential", weighting="oversample")
    training = training_of(run)
    assert {target.weight for target in training} == {1.0}
    copies = Counter(target.question_id for target in training if target.severity)
    severities = {target.question_id: target.severity for target in training if target.severity}
    assert copies == {id: EXPONENTIAL[severity] for id, severity in severities.items()}
    assert logged_mass(run) == pytest.approx(mass_of(run, training), rel=1e-5)

    def merged(targets, seed):
        return list({target.question_id: target for target in oversampled(targets, seed)}.values())

    monkeypatch.setattr(repair_stage, "oversampled", merged)
    with pytest.raises(WeightingHadNoEffect, match="is 1 times in the oversampled"):
        repaired(severity_weights="exponential", weighting="oversample")


def test_at_a_mass_equal_weights_train_the_same_whatever_they_are(repaired, capsys):
    """And for no more steps than they may; the loss has then seen what these steps hold."""
    found = []
    for weights in ("uniform", "[3, 3, 3, 3]"):
        run = repaired(severity_weights=weights, mass=2.5, epochs=3, max_steps=2)
        training = training_of(run)
        repairs = [target.weight for target in training if target.severity]
        replayed = len(training) - len(repairs)
        assert replayed and math.fsum(repairs) == pytest.approx(2.5 * replayed)
        report = json.loads((run.folder / "repair/weights.json").read_text("utf-8"))
        factor = 2.5 * replayed / len(repairs) / run.config.repair.weights[0]
        assert report["mass"] == {"of_replay": 2.5, "factor": pytest.approx(factor)}
        log = read_jsonl(run.folder / "repair/log.jsonl", LogLine)
        assert len(log) == 2
        assert 0 < logged_mass(run) < 0.9 * 3 * mass_of(run, training)
        assert "repair.max_steps: 2 of " in capsys.readouterr().out
        found.append(([step.loss for step in log], run.adapter("M_DART")[0]))

    (losses, uniform), (losses_of_threes, threes) = found
    assert losses == pytest.approx(losses_of_threes, rel=1e-5)
    # Adam divides by the gradient's size: where that is 0 up to rounding, its sign is anything.
    same = jax.tree.map(lambda a, b: np.isclose(a, b, rtol=1e-3, atol=1e-5).mean(), uniform, threes)
    assert min(jax.tree.leaves(same)) > 0.99


@pytest.mark.parametrize("weighting", ["loss", "oversample"])
@pytest.mark.parametrize("scheme", ["linear", "uniform", "quadratic", "[0.5, 1, 1.5, 2.5]"])
@pytest.mark.parametrize("share", ["null", "0.06"])
def test_every_combination_makes_its_training_set(tmp_path, weighting, scheme, share):
    """From drift cases on the mini suite; no model is needed for that."""
    config, _, _ = parse(
        [
            f"--run.root={tmp_path}",
            "--data.max_train=40",
            f"--repair.severity_weights={scheme}",
            f"--repair.weighting={weighting}",
            f"--repair.max_weight_share={share}",
            "--repair.span_weight=2",
        ]
    )
    run = Run(config, RunDir(config.run))
    by_id = {item.question.id: item for item in load_mini()}
    items = [by_id[question.id] for question in run.splits["train"]]
    distill = [Target(i.question.id, "distill", f"{i.rationale}\nConclusion: NO") for i in items]
    write_jsonl(run.folder / "teach/targets.jsonl", distill)
    weights = config.repair.weights
    cases, repairs = [], []
    for number, item in enumerate(items[:12]):
        severity, id = Severity(number % 4 + 1), item.question.id
        quote = item.rationale[:20]
        cases.append(
            DriftCase(id, "M_int", "", item.rationale, 0.1, DriftType.OMITS, severity, quote)
        )
        weight = weights[severity - 1]
        repairs.append(Target(id, "repair", f"{item.safer}\nConclusion: NO", weight, severity))
    training = repair_stage._write_training_set(run, repairs, cases, FIRST)
    assert training == training_of(run)
    report = json.loads((run.folder / "repair/weights.json").read_text("utf-8"))
    assert {name: row["examples"] for name, row in report.items()} == dict.fromkeys(
        ("minor", "moderate", "severe", "extreme"), 3
    ) | {"replay": 10}
    assert all(target.spans for target in training if target.severity)
    mass = sum(row["weight"] for row in report.values())
    if weighting == "loss":
        heaviest = max(target.weight for target in training)
        assert heaviest <= (0.06 if share != "null" else 1) * mass * (1 + 1e-9)
    else:
        assert mass == len(training) and {target.weight for target in training} == {1.0}
    if scheme == "uniform":
        assert mass == pytest.approx(22), "which is to have no effect"
    if scheme == "quadratic" and share == "null":
        assert report["extreme"]["weight"] == 48
