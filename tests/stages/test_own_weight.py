"""`repair.weight_fn` in the stage: checked before any work, and in what is trained on."""

import json
import math
import sys

import pytest

from dart_jax.commands.sweep.config import SweepRun
from dart_jax.commands.sweep.plan import stage_keys
from dart_jax.config import parse
from dart_jax.data.mini_suite import load_mini
from dart_jax.pipeline import preflight
from dart_jax.records import DriftCase, DriftType, Severity, Target, write_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.stages import repair as repair_stage
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import FIRST

OWN = """
import math

def log_severity(case):
    return math.log(1 + case.severity)

def by_benchmark(case):
    return {"D1": 2.0}[case.benchmark]

def weighted(tokens):
    return tokens.weights * tokens.cross_entropy
"""


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A function: a run on the mini suite with eight drift cases; `own_weight.py` is at hand."""
    (tmp_path / "own_weight.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_weight", raising=False)

    def run(*settings):
        config, _, _ = parse([f"--run.root={tmp_path}", "--data.max_train=40", *settings])
        run = Run(config, RunDir(config.run))
        cases = []
        for number, question in enumerate(run.splits["train"][:8]):
            of_case = (0.1, DriftType.ELABORATES, Severity(number % 4 + 1))
            # As an audit of an earlier version left them, without a benchmark.
            cases.append(DriftCase(question.id, "M_int", "", "They are fools.", *of_case))
        write_jsonl(run.folder / "audit/drift_cases.jsonl", cases)
        return run

    yield run
    sys.modules.pop("own_weight", None)


@pytest.mark.parametrize("weighting", ["loss", "oversample"])
def test_cases_are_trained_on_with_their_own_weight(opened, weighting):
    own = f"--repair.weight_fn=own_weight.log_severity --repair.weighting={weighting}".split()
    run = opened(*own, "--audit.mode=screen_only", "--repair.require_safer=none")
    items = {item.question.id: item for item in load_mini()}
    distill = []
    for question in run.splits["train"]:
        text = f"{items[question.id].rationale}\nConclusion: {question.gold}"
        distill.append(Target(question.id, "distill", text))
    write_jsonl(run.folder / "teach/targets.jsonl", distill)

    repairs = repair_stage.ask(run)
    assert len(repairs) == 8
    cases = repair_stage._cases(run, FIRST)
    training = repair_stage._write_training_set(run, repairs, cases, FIRST)
    expected = {severity.name.lower(): 2 * math.log(1 + severity) for severity in Severity}
    report = json.loads((run.folder / "repair/weights.json").read_text("utf-8"))
    for name, mass in expected.items():
        assert report[name]["examples"] == 2
        # Copies miss the mass by less than 1.
        missing = 1e-6 if weighting == "loss" else 1.0
        assert report[name]["weight"] == pytest.approx(mass, abs=missing)
    assert {target.severity for target in training} == {None, *Severity}


def test_a_weight_that_fails_on_a_case_stops_before_any_work(opened):
    run = opened("--repair.weight_fn=own_weight.by_benchmark")
    others = [c for c in repair_stage._cases(run, FIRST) if c.benchmark != "D1"]
    assert others, "its benchmark comes from the question"
    with pytest.raises(ValueError, match=rf"{others[0].question_id} \(.*line 8\): KeyError: 'N?D?"):
        repair_stage.check(run)
    repair_stage.check(opened("--repair.weight_fn=own_weight.by_benchmark", "--repair.epochs=0"))


def test_a_weight_that_cannot_be_imported_stops_the_run_at_its_start(opened):
    with pytest.raises(ValueError, match=r"repair\.weight_fn: own_weight\.gone: module own_weight"):
        preflight._check_losses(opened("--repair.weight_fn=own_weight.gone"))


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ("", True),
        ("--repair.weight_fn=own_weight.log_severity", True),
        ("--repair.severity_weights=uniform", False),
        ("--repair.weighting=oversample", False),
    ],
)
def test_a_loss_that_weighs_once_more_is_warned_about(opened, settings, warned, capsys):
    run = opened("--repair.loss.fn=own_weight.weighted", *settings.split())
    preflight._check_losses(run)
    assert ("drift cases are weighted twice" in capsys.readouterr().err) is warned


def test_variants_of_a_sweep_share_all_but_the_repair(opened, settings, tmp_path):
    """The scorer is the rule of these settings, so that naming it changes nothing."""
    variants = (
        {},
        {"repair__weight_fn": "own_weight.log_severity"},
        {"repair__require_safer": "none"},
        {"repair__require_safer": "scorer"},
    )
    keys = []
    for changes in variants:
        config, _, resolved = parse(settings(tmp_path, **changes))
        keys.append(stage_keys(SweepRun("v", 0, config, resolved)))
    assert len({of_variant["audit"] for of_variant in keys}) == 1
    assert len({of_variant["repair"] for of_variant in keys}) == 3
