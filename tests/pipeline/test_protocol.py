"""Held-out and transductive runs, the policy's two sides, and runs side by side."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from dart_jax.audit import drift
from dart_jax.commands import evaluate as evaluate_command
from dart_jax.config import STAGES, parse
from dart_jax.evaluate.summary import MODELS
from dart_jax.records import DriftCase, Generation, Target, read_jsonl, write_jsonl
from dart_jax.run_dir import RunDir, StaleStage
from dart_jax.stages import distill, repair
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import FIRST
from dart_jax.train import main


def questions_of(settings, root, **overrides):
    """Ids by split."""
    config, _, _ = parse(settings(root, **overrides))
    splits = Run(config, RunDir(config.run)).splits
    return {name: {question.id for question in found} for name, found in splits.items()}


def trained_on(folder):
    """Ids of every question in every training set of a run; what is set aside is none of it."""
    repairs = [folder / "repair/training_set.jsonl"]
    repairs += folder.glob("cycles/*/repair/training_set.jsonl")
    files = [folder / "teach/targets.jsonl", *repairs]
    assert len(files) >= 2
    return {target.question_id for file in files for target in read_jsonl(file, Target)}


@pytest.fixture(scope="module")
def transductive(finished, settings, tmp_path_factory):
    """The finished run, continued under the other protocol; and what it printed."""
    root = tmp_path_factory.mktemp("transductive")
    shutil.copytree(finished, root / "run")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(settings(root, audit__protocol="transductive")) == 0
    return root / "run", printed.getvalue()


def test_heldout_never_trains_on_test_prompts(finished, settings, tmp_path):
    ids = questions_of(settings, tmp_path)
    assert trained_on(finished) <= ids["train"] | ids["validation"]
    assert trained_on(finished) & ids["test"] == set()
    pool = read_jsonl(finished / "audit/generations/M0.jsonl", Generation)
    assert {answer.question_id for answer in pool} == ids["validation"]
    assert len(read_jsonl(finished / "repair/targets.jsonl", Target)) > 0


def test_transductive_repairs_on_test_prompts_and_says_so(
    transductive, settings, tmp_path, summary_of
):
    folder, printed = transductive
    ids = questions_of(settings, tmp_path)
    repaired = {
        target.question_id for target in read_jsonl(folder / "repair/targets.jsonl", Target)
    }
    cases = {case.question_id for case in read_jsonl(folder / "audit/drift_cases.jsonl", DriftCase)}
    assert repaired and repaired <= cases <= ids["test"]
    assert trained_on(folder) <= ids["train"] | ids["test"]
    distilled = {
        target.question_id for target in read_jsonl(folder / "teach/targets.jsonl", Target)
    }
    assert distilled & ids["test"] == set()
    summary = summary_of(folder)
    assert (summary["protocol"], summary["split_by"]) == ("transductive", "row")
    assert summary["drift_pool"]["pairs"] == 8
    page = (folder / "report/report.md").read_text("utf-8")
    assert (
        "Protocol <code>transductive</code>: drift cases for repair come from the test questions"
        in page
    )
    assert "protocol heldout" not in page and "training and validation questions" not in page
    assert "protocol transductive, split by row, 8 test questions" in printed


def test_the_protocol_repeats_no_teaching_and_no_distilling(transductive):
    _, printed = transductive
    assert [stage for stage in STAGES if f"{stage}: up to date" in printed] == ["teach", "distill"]


def test_a_test_question_in_a_training_set_stops_the_stage(copied, settings, tmp_path):
    """Whatever put it there: here, files that were changed by hand."""
    config, _, _ = parse(settings(tmp_path))
    run = Run(config, RunDir(config.run))
    leaked = run.splits["test"][0].id
    target = Target(leaked, "distill", "Text.\nConclusion: NO")
    with pytest.raises(drift.TestLeak, match=rf"in the repair set \(protocol heldout\): {leaked}"):
        repair._write_training_set(run, [target], [], FIRST)
    path = run.folder / "teach/targets.jsonl"
    write_jsonl(path, [target, *read_jsonl(path, Target)])
    with pytest.raises(drift.TestLeak, match=rf"among the distill targets: {leaked}"):
        distill.execute(run)


def test_tables_of_a_run(finished, summary_of):
    summary = summary_of(finished)
    names = {path.name for path in (finished / "evaluation/tables").iterdir()}
    expected = ("results", "drift", "accuracy_by_group", "accuracy_tests", "score_tests")
    expected += ("score_groups",)
    assert names >= {f"{name}.{form}" for name in expected for form in ("csv", "tex")}
    assert {Path(name).stem for name in names if name.endswith(".csv")} == {
        Path(name).stem for name in names if name.endswith(".tex")
    }
    with open(finished / "evaluation/tables/results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [*MODELS, "shortcut baseline"]
    assert {(row["run"], row["protocol"], row["split_by"]) for row in rows} == {
        ("run", "heldout", "row")
    }
    for row, name in zip(rows, MODELS, strict=False):
        assert float(row["accuracy"]) == summary["models"][name]["accuracy"]
    page = (finished / "report/report.md").read_text("utf-8")
    assert "## Statistics" in page and "## Explanation policy" not in page
    assert summary["policy"] is None


def test_the_policy_side_by_side(copied, settings, tmp_path, summary_of, capsys):
    before = summary_of(copied)
    assert main(settings(tmp_path, evaluate__policy="both")) == 0
    printed = capsys.readouterr().out
    assert all(f"{stage}: up to date" in printed for stage in STAGES[:-1])
    assert "kept, as it would be the same: generations/M0.jsonl, eval" in printed
    summary = summary_of(copied)
    assert summary["models"] == before["models"], "the figures of the run are those without it"
    policy = summary["policy"]
    assert (policy["asked"], policy["headline"]) == ("both", "without")
    assert (
        policy["sides"]["without"]["M_DART"]["accuracy"] == before["models"]["M_DART"]["accuracy"]
    )
    assert [row["model"] for row in policy["comparisons"]] == list(MODELS)
    for name in MODELS:
        plain, asked = (
            read_jsonl(copied / f"generations/{folder}{name}.jsonl", Generation)
            for folder in ("", "with_policy/")
        )
        longer = {a.prompt_tokens - p.prompt_tokens for p, a in zip(plain, asked, strict=True)}
        assert len(longer) == 1 and longer.pop() > 10, "the policy is in every prompt"
        assert [a.text for a in plain] != [a.text for a in asked]
    page = (copied / "report/report.md").read_text("utf-8")
    assert "## Explanation policy" in page and "| M_DART | with |" in page
    assert (copied / "evaluation/tables/policy.csv").is_file()
    assert main(settings(tmp_path, evaluate__policy="both", evaluate__confidence=0.9)) == 0
    printed = capsys.readouterr().out
    for name in ("generations/with_policy/M_DART", "evaluation/with_policy/margins_M_DART"):
        assert f"{name}.jsonl" in printed

    assert main(settings(tmp_path, evaluate__policy="with")) == 0
    alone = summary_of(copied)
    assert alone["policy"]["headline"] == "with" and alone["policy"]["comparisons"] == []
    for name in MODELS:
        assert alone["models"][name]["accuracy"] == policy["sides"]["with"][name]["accuracy"]
    assert not (copied / "generations/with_policy").exists()


def test_runs_side_by_side(finished, transductive, tmp_path, capsys):
    other, _ = transductive
    files = [tmp_path / "runs.csv", tmp_path / "runs.tex"]
    arguments = ["compare", str(finished), str(other), f"--csv={files[0]}", f"--latex={files[1]}"]
    assert evaluate_command.main(arguments) == 0
    printed = capsys.readouterr()
    assert "WARNING" not in printed.err
    names = [f"{folder.parent.name}/run" for folder in (finished, other)]
    assert all(name in printed.out for name in names)
    assert "on the same questions" in printed.out
    with open(files[0], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["protocol"]) for row in rows] == [
        (names[0], "heldout"),
        (names[1], "transductive"),
    ]
    for row, folder in zip(rows, (finished, other), strict=True):
        summary = json.loads((folder / "evaluation/summary.json").read_text("utf-8"))
        assert float(row["M_DART"]) == summary["models"]["M_DART"]["accuracy"]
        assert float(row["shortcut"]) == summary["shortcut_baseline"]["accuracy"]
        assert int(row["drift_dart"]) == summary["drift"]["M_DART"]["confirmed"]
    latex = files[1].read_text("utf-8")
    assert latex.count(r"\toprule") == latex.count(r"\label{tab:runs-") + 1 >= 4


def test_other_questions_are_warned_of_and_have_no_paired_test(
    finished, copied, settings, tmp_path, capsys
):
    assert main(settings(tmp_path, data__max_test=6)) == 0
    capsys.readouterr()
    assert evaluate_command.main(["compare", str(finished), str(copied)]) == 0
    printed = capsys.readouterr()
    assert "WARNING" in printed.err and "6 test questions, 6 of them among the 8" in printed.err
    assert "same questions" not in printed.out


def test_what_is_no_finished_run_is_refused_by_name(finished, copied, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing is no run"):
        evaluate_command.main(["compare", str(finished), str(tmp_path / "nothing")])
    (copied / "stages/evaluate.json").unlink()
    with pytest.raises(StaleStage, match=rf"{copied}: stage evaluate is not finished"):
        evaluate_command.main(["compare", str(finished), str(copied)])
    with pytest.raises(ValueError, match="given twice"):
        evaluate_command.main(["compare", str(finished), str(finished)])
