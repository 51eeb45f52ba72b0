"""Sweeps on the tiny model: what is shared, what fails, what a run alone would have given."""

import csv
import json
import shutil
from dataclasses import replace

import pytest

import dart_jax.stages.repair as repair_stage
from dart_jax.config import STAGES, read_config
from dart_jax.pipeline.finished import read_finished, run_folder
from dart_jax.pipeline.plan import planned_stages
from dart_jax.pipeline.reuse import Reuse
from dart_jax.records import Generation, read_jsonl
from dart_jax.run_dir import RunConfig, RunDir, hash_path
from dart_jax.set_aside import remove
from dart_jax.sft.metrics import NonFiniteLoss
from dart_jax.stages.context import Run
from dart_jax.train import main as train_main

TEXT = """
base: {}
variants:
  linear:
  uniform: {repair.severity_weights: [1, 1, 1, 1]}
  broken: {repair: {learning_rate: 1.0e+38}}
  tau: {audit.tau: 0.0, audit.max_prompts: 5}
"""


@pytest.fixture(scope="module")
def swept(sweep, judge, tmp_path_factory):
    """Folder of a sweep of which one variant fails; its status, and requests to the judge."""
    folder, before = tmp_path_factory.mktemp("sweep"), len(judge.asked)
    status = sweep(folder, TEXT)
    return folder / "out", status, len(judge.asked) - before


def manifests(folder):
    """`taken_from` of each finished stage of each run; None where the run has done it itself."""
    return {
        (path.parents[1].name, path.stem): json.loads(path.read_text()).get("taken_from")
        for path in folder.glob("runs/*/stages/*.json")
    }


def table_of(folder):
    return json.loads((folder / "table.json").read_text())


def test_what_variants_share_runs_once(swept):
    folder, _, _ = swept
    found = manifests(folder)
    assert {key for key, source in found.items() if source is None} == {
        (f"{name}-seed0", stage)
        for name, stages in {
            "linear": STAGES,
            "uniform": ("repair", "evaluate"),
            "tau": ("audit", "repair", "evaluate"),
        }.items()
        for stage in stages
    }
    assert {source for source in found.values() if source} == {"linear-seed0"}
    assert ("broken-seed0", "audit") in found and ("broken-seed0", "repair") not in found


def test_a_swept_run_is_the_run_alone(swept, settings, tmp_path, summary_of):
    """Bit for bit, though three of its stages and two models' answers came from another one."""
    folder, _, _ = swept
    swept_run = folder / "runs/uniform-seed0"
    args = settings(tmp_path, repair__severity_weights="[1,1,1,1]")
    assert train_main(args) == 0
    alone = tmp_path / "run"
    for name in ("adapters", "generations", "audit", "repair/training_set.jsonl"):
        assert hash_path(alone / name) == hash_path(swept_run / name), name
    expected, found = summary_of(alone), summary_of(swept_run)
    assert set(expected.pop("seconds")) == set(found.pop("seconds"))
    assert expected == found
    assert expected["drift"]["M_DART"]["confirmed"] > 0, "there must be something to compare"


def test_a_pair_is_judged_once_in_a_sweep(swept):
    """In both orders, though four audits hold the verdicts on M_int's test answers."""
    folder, _, asked = swept
    pairs = set()
    for name in ("audit/generations", "generations"):
        for run in ("linear", "uniform", "tau"):
            place = folder / f"runs/{run}-seed0/{name}"
            texts = {
                file.stem: {a.question_id: a.text for a in read_jsonl(file, Generation)}
                for file in place.glob("*.jsonl")
            }
            for model in texts.keys() - {"M0"}:
                pairs |= {(id, texts["M0"][id], text) for id, text in texts[model].items()}
    assert asked == 2 * len(pairs)


def test_a_swept_run_is_an_ordinary_one(swept):
    folder, _, _ = swept
    finished = read_finished(run_folder(folder / "runs/uniform-seed0"))
    assert finished.adapter("M_DART").is_dir()
    assert train_main([f"--config={folder / 'runs/uniform-seed0/config.yaml'}"]) == 0


@pytest.fixture
def candidate(swept, tmp_path):
    """A function: what the stage evaluate of a new run beside `linear` would take from it."""
    folder, _, _ = swept
    shutil.copytree(folder / "runs/linear-seed0", tmp_path / "linear-seed0")

    def taken(**changes):
        new = RunDir(RunConfig(name="new", root=str(tmp_path)))
        remove(new.path)
        for part in ("adapters", "teach", "audit", "repair"):
            shutil.copytree(folder / "runs/uniform-seed0" / part, new / part)
        config = read_config(folder / "runs/uniform-seed0/config.yaml")
        sections = {key: replace(getattr(config, key), **row) for key, row in changes.items()}
        run = Run(replace(config, **sections), new)
        [step] = [step for step in planned_stages(1) if step.stage == "evaluate"]
        Reuse(tmp_path).take_answers(run, step, step.inputs(run))
        files = [*new.path.glob("generations/*"), *new.path.glob("evaluation/*")]
        return {path.relative_to(new.path).as_posix() for path in files}

    return taken


GENERATED = {f"generations/{name}.jsonl" for name in ("M0", "M_int")} | {
    f"evaluation/margins_{name}.jsonl" for name in ("M0", "M_int")
}


def test_answers_of_equal_models_are_taken(candidate):
    """M_DART is another one: neither its answers nor its verdicts are."""
    assert candidate() == {*GENERATED, "evaluation/verdicts_M_int.jsonl"}
    assert candidate(audit={"tau": 0.3}) == GENERATED
    assert candidate(judge={"model": "other"}) == GENERATED
    assert candidate(audit={"max_prompts": 3}, evaluate={"confidence": 0.9}) == GENERATED


@pytest.mark.parametrize(
    "changes",
    [{"decode": {"temperature": 0.3}}, {"run": {"seed": 1}}, {"data": {"max_test": 4}}],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_is_taken_that_depends_on_what_differs(changes, candidate):
    assert candidate(**changes) == set()


def test_the_answers_of_a_stage_that_was_tampered_with_are_not_taken(candidate, tmp_path):
    with open(tmp_path / "linear-seed0/generations/M0.jsonl", "a") as file:
        file.write("{}\n")
    assert candidate() == set()


def test_a_failing_variant_stops_no_other_and_is_shown(swept):
    folder, status, _ = swept
    assert status == 1
    found = table_of(folder)
    assert [(f["variant"], f["seed"], f["stage"]) for f in found["failures"]] == [
        ("broken", 0, "repair")
    ]
    assert all(NonFiniteLoss.__name__ in f["error"] for f in found["failures"])
    assert (found["done"], found["runs"]) == (3, 4)
    page = (folder / "table.md").read_text()
    assert "## Failed" in page and "broken, seed 0, repair" in page


def test_the_tables_hold_what_the_runs_measured(swept, summary_of):
    folder, _, _ = swept
    found = table_of(folder)
    names = ["M0", "distill only (linear, uniform)", "distill only (tau)"]
    assert [row["name"] for row in found["rows"]] == [*names, "linear", "uniform", "tau"]
    for row in found["rows"][3:]:
        summary = summary_of(folder / f"runs/{row['name']}-seed0")
        assert row["metrics"]["accuracy"]["mean"] == summary["models"]["M_DART"]["accuracy"]
        drift = summary["drift"]["M_DART"]
        assert row["metrics"]["drift"]["mean"] == drift["confirmed"] / drift["pairs"]
        assert row["metrics"]["accuracy"]["low"] is None
    assert found["measured_differently"] == ["audit"]
    page = (folder / "table.md").read_text()
    assert "One seed gives no interval" in page and "Variants differ in audit" in page
    lines = list(csv.DictReader((folder / "table.csv").open()))
    shown = [*(row["name"] for row in found["rows"]), "shortcut baseline"]
    assert [line["name"] for line in lines] == shown
    latex = (folder / "table.tex").read_text()
    assert all(name.replace("_", r"\_") in latex for name in shown)
    for name in ("png", "svg"):
        assert (folder / f"accuracy_vs_drift.{name}").stat().st_size > 5000


def test_a_second_start_runs_only_what_failed(swept, sweep, capsys):
    folder, _, _ = swept
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.glob("runs/*/*/*")
        if "broken" not in str(path) and path.suffix != ".sqlite"
    }
    assert sweep(folder.parent, TEXT) == 1
    printed = capsys.readouterr().out
    executed = [line for line in printed.splitlines() if line.startswith("[") and ":" not in line]
    assert executed == ["[4/5] repair"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "2 stage runs left" in printed


def test_an_interrupted_sweep_goes_on(swept, sweep, tmp_path, monkeypatch, capsys):
    train, calls = repair_stage.train, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    text = TEXT.replace("  broken", "#").replace("  tau", "#")
    monkeypatch.setattr(repair_stage, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, text)
    assert table_of(tmp_path / "out")["done"] == 1
    monkeypatch.setattr(repair_stage, "train", train)
    capsys.readouterr()
    assert sweep(tmp_path, text) == 0
    printed = capsys.readouterr().out
    assert "2 runs: 2 stages to run, 0 shared, 8 done" in printed
    whole, _, _ = swept
    for run in ("linear-seed0", "uniform-seed0"):
        for name in ("adapters", "generations"):
            ours, theirs = (f / "runs" / run / name for f in (tmp_path / "out", whole))
            assert hash_path(ours) == hash_path(theirs)


def test_nothing_is_shared_between_bases_of_the_same_shape(sweep, retrained, tmp_path, capsys):
    """Of two fine-tunes of one model only the targets are the same, which neither wrote."""
    text = f"base: {{}}\nvariants:\n  a:\n  b: {{model.path: {retrained}}}\n"
    assert sweep(tmp_path, text, "--dry-run") == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("b-seed0")]
    planned = "distill RUN, audit RUN, repair RUN, evaluate RUN"
    assert line.split("  ")[-1] == f"teach from a-seed0, {planned}"


def test_a_dry_run_prints_the_plan_and_writes_nothing(sweep, tmp_path, capsys):
    assert sweep(tmp_path, f"seeds: [0, 1]{TEXT}", "--dry-run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "out").exists()
    assert printed[-1] == "8 runs: 24 stages to run, 16 shared, 0 done"
    [uniform] = [line for line in printed if line.startswith("uniform-seed1")]
    assert uniform.split("  ")[-1] == (
        "teach from linear-seed1, distill from linear-seed1, audit from linear-seed1, "
        "repair RUN, evaluate RUN"
    )
