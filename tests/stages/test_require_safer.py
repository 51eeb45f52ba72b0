"""`repair.require_safer` in the stage: what is asked and kept, and what repeats a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from dart_jax.commands.sweep.config import read_sweep
from dart_jax.config import parse, read_config
from dart_jax.data.mini_suite import file_safer
from dart_jax.pipeline.preflight import check_stages
from dart_jax.records import DriftCase, DriftType, RejectedTarget, Severity, read_jsonl, write_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.set_aside import remove
from dart_jax.stages import repair as repair_stage
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import FIRST
from dart_jax.stages.targets import reject_types
from dart_jax.teach.config import SaferConfig
from tests.loopback_judge import grade

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def opened(tmp_path):
    """A function: a run on the mini suite with six drift cases, two of each type."""

    def run(*settings):
        config, _, _ = parse([f"--run.root={tmp_path}", *settings])
        run = Run(config, RunDir(config.run))
        asked = run.splits["train"][:6]
        cases = []
        for question, type in zip(asked, [*DriftType] * 2, strict=True):
            text = f"They are all alike in {question.id}."
            cases.append(DriftCase(question.id, "M_int", "", text, 0.1, type, Severity.MINOR))
        write_jsonl(run.folder / "audit/drift_cases.jsonl", cases)
        return run, cases

    return run


def codes(run):
    rejected = read_jsonl(run.folder / "repair/rejected.jsonl", RejectedTarget)
    return {target.question_id: target.reasons[-1].split(":")[0] for target in rejected}


def test_the_judge_decides_and_no_start_asks_it_twice(opened, judge, monkeypatch):
    service = ["provider=openai", "model=hash", f"base_url={judge.url}", "api_key_env=NO_SUCH_KEY"]
    run, cases = opened(*(f"--judge.{setting}" for setting in service))
    failing = run.questions[cases[0].question_id]
    monkeypatch.setattr(judge, "garbles", lambda text: text == failing.text)
    before = len(judge.asked)
    accepted = repair_stage.ask(run)

    # The judge finds the text with the higher hash worse, in either place.
    texts = {case.question_id: case.candidate_text for case in cases[1:]}
    worse = {id for id, text in texts.items() if grade(file_safer()[id]) > grade(text)}
    assert 0 < len(worse) < 5, "this judge must accept some and refuse some"
    assert codes(run) == {failing.id: "judge_failed"} | dict.fromkeys(worse, "judged_worse")
    assert {target.question_id for target in accepted} == texts.keys() - worse

    asked = len(judge.asked)
    assert asked - before == 2 * 5 + 2 * 3
    assert repair_stage.ask(run) == accepted and len(judge.asked) == asked
    # Also where its results are lost: valid answers are in the store, a failure's are not.
    remove(run.folder / "repair")
    assert repair_stage.ask(run) == accepted
    assert len(judge.asked) - asked == 2 * 3


def test_rejections_are_counted_by_type(opened):
    run, cases = opened("--audit.mode=screen_only", "--repair.require_safer=scorer")
    run.scorer = type("Calm", (), {"score": lambda self, texts: [(0.0, {})] * len(texts)})()
    assert repair_stage.ask(run) == []
    rejected = read_jsonl(run.folder / "repair/rejected.jsonl", RejectedTarget)
    assert reject_types(rejected, cases) == {
        "not_safer": {"elaborates": 2, "normalizes": 2, "omits": 2}
    }
    remove(run.folder / "repair")
    run, _ = opened("--audit.mode=screen_only")
    run.scorer = type("Calm", (), {"score": lambda self, texts: [(0.0, {})] * len(texts)})()
    omissions = {case.question_id for case in cases if case.type is DriftType.OMITS}
    assert {target.question_id for target in repair_stage.ask(run)} == omissions


def inputs(opened, *settings, types=tuple(DriftType)):
    run, cases = opened(*settings)
    chosen = [replace(case, type=types[0]) if case.type not in types else case for case in cases]
    write_jsonl(run.folder / "audit/drift_cases.jsonl", chosen)
    return repair_stage._safer_inputs(run, FIRST)


def test_a_run_is_repeated_only_where_another_decides_about_its_types_of_drift(opened):
    """Before there was a choice, the scorer decided on all of them; such runs stay as they are."""
    alone, no_judge = (DriftType.ELABORATES,), "--audit.mode=screen_only"
    assert inputs(opened, no_judge, types=alone) == {}
    assert inputs(opened, no_judge, "--repair.require_safer=scorer") == {}
    assert inputs(opened, "--repair.require_safer=scorer") == {}
    assert inputs(opened, "--repair.epochs=0") == {}
    scorer = {"elaborates": "scorer", "normalizes": "scorer"}
    assert inputs(opened, no_judge) == {"safer by": {**scorer, "omits": "none"}}
    run, _ = opened(no_judge)
    remove(run.folder / "audit")
    assert repair_stage._safer_inputs(run, FIRST) == inputs(opened, no_judge), "as a plan sees it"
    service = ("--judge.provider=openai", "--judge.model=m")
    found = inputs(opened, *service, types=alone)
    assert found["safer by"] == {"elaborates": "judge"} and found["judge"]["model"] == "m"
    assert inputs(opened, *service, "--judge.model=n", types=alone) != found


def test_the_measured_runs_have_the_rule_that_they_were_measured_with():
    """Their repairs are of type elaborates, by the scorer, as when there was no choice."""
    measured = [run.config for run in read_sweep(CONFIGS / "lab.yaml", None, {}).runs]
    for config in [read_config(CONFIGS / "quickstart.yaml"), *measured]:
        # A variant of the laboratory that sets another rule does so to be compared.
        if config.repair.epochs and config.repair.require_safer == SaferConfig():
            assert (config.audit.mode, config.plant.types) == ("screen_only", ("elaborates",))
            rule = config.repair.require_safer.rule(DriftType.ELABORATES, config.audit.asks_judge)
            assert rule == "scorer"


@pytest.mark.parametrize("mode", ["screen_only", "planted"])
def test_a_judge_that_the_audit_lacks_is_refused(mode):
    settings = [f"--audit.mode={mode}", "--plant.share=1", "--repair.require_safer.omits=judge"]
    config, _, _ = parse(settings)
    with pytest.raises(ValueError, match=rf"require_safer\.omits: judge; audit\.mode {mode}"):
        check_stages(config, ("repair",))
