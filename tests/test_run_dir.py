"""When a stage runs again, what it finds, and who may work in a run's folder."""

import json
import shutil
import subprocess
import sys

import pytest

from dart_jax import run_dir
from dart_jax.run_dir import RunBusy, RunConfig, RunDir, hash_path
from dart_jax.set_aside import remove

INPUTS = {"model": "a", "tau": 0.01, "adapters": (1, 2)}
OUTPUTS = ("out/result.txt", "out/folder")
WORK = ("out/partial.txt",)


@pytest.fixture
def run(tmp_path):
    return RunDir(RunConfig(root=str(tmp_path)))


def finish(run, inputs=INPUTS, text="result"):
    """Run the stage to its end; returns the partial file's text as the stage found it."""
    with run.stage("audit", inputs, OUTPUTS, WORK):
        partial = run / WORK[0]
        found = partial.read_text() if partial.exists() else None
        (run / "out/folder").mkdir(parents=True, exist_ok=True)
        (run / "out/folder/part.txt").write_text(text)
        (run / OUTPUTS[0]).write_text(text)
    return found


def interrupt(run, inputs=INPUTS):
    """Begin the stage, leave a partial file, and die."""
    with pytest.raises(KeyboardInterrupt), run.stage("audit", inputs, OUTPUTS, WORK):
        (run / "out").mkdir(exist_ok=True)
        (run / WORK[0]).write_text("half")
        raise KeyboardInterrupt


def test_a_finished_stage_is_current(run):
    assert not run.is_current("audit", INPUTS)
    finish(run)
    assert run.is_current("audit", INPUTS)
    assert RunDir(RunConfig(root=str(run.path.parent))).is_current("audit", dict(INPUTS))


def test_an_interrupted_stage_is_not_current(run):
    interrupt(run)
    assert not run.is_current("audit", INPUTS)
    assert run.seconds() == {}


def test_changed_inputs_are_named_with_their_values(run):
    finish(run)
    changed = {**INPUTS, "tau": 0.02, "new": None}
    assert not run.is_current("audit", changed)
    named = ["tau changed (0.01 -> 0.02)", "new changed (unset -> null)"]
    assert run.reasons("audit", changed) == named
    assert run.reasons("audit", INPUTS) == []
    assert run.reasons("repair", INPUTS) == [], "it was never begun"


def test_an_interrupted_stage_names_what_changed_since(run):
    interrupt(run)
    assert run.reasons("audit", INPUTS) == []
    assert run.reasons("audit", {**INPUTS, "tau": 0.02}) == ["tau changed (0.01 -> 0.02)"]


def test_a_changed_output_is_named(run):
    finish(run)
    spoil(run / OUTPUTS[0])
    assert run.reasons("audit", INPUTS) == ["out/result.txt is not what the stage left"]


def spoil(path):
    path.write_text("other")


@pytest.mark.parametrize("name", ["out/result.txt", "out/folder/part.txt"])
@pytest.mark.parametrize("change", [spoil, remove], ids=["rewritten", "deleted"])
def test_a_changed_output_file_runs_the_stage_again_from_its_beginning(name, change, run):
    finish(run)
    (run / WORK[0]).write_text("of the finished stage")
    change(run / name)
    assert not run.is_current("audit", INPUTS)
    assert finish(run) is None
    assert run.is_current("audit", INPUTS)
    assert (run / name).read_text() == "result"


def test_a_new_file_in_an_output_folder_counts_as_a_change(run):
    finish(run)
    (run / "out/folder/stray.txt").write_text("")
    assert not run.is_current("audit", INPUTS)


def test_an_interrupted_stage_keeps_its_partial_work(run):
    interrupt(run)
    interrupt(run)
    assert finish(run) == "half"


def other_tau(tau):
    return {**INPUTS, "tau": tau}


def test_changed_inputs_set_partial_work_and_results_aside(run):
    interrupt(run)
    assert finish(run, other_tau(0.5), text="of tau 0.5") is None
    assert (run / "audit.unfinished" / WORK[0]).read_text() == "half"

    (run / WORK[0]).write_text("of tau 0.5")
    with pytest.raises(KeyboardInterrupt), run.stage("audit", INPUTS, OUTPUTS, WORK) as old:
        assert not any((run / name).exists() for name in [*OUTPUTS, *WORK])
        raise KeyboardInterrupt
    # The old manifest went with the old outputs.
    assert not run.is_current("audit", other_tau(0.5))
    assert old == run / "audit.old"
    for name in (OUTPUTS[0], "out/folder/part.txt", WORK[0]):
        assert (old / name).read_text() == "of tau 0.5"
    manifest = json.loads((old / "stages/audit.json").read_text())
    assert manifest["inputs"]["tau"] == 0.5
    assert manifest["outputs"] == {name: hash_path(old / name) for name in OUTPUTS}


def test_one_generation_of_results_is_kept(run):
    for tau in (0.1, 0.2, 0.3):
        finish(run, other_tau(tau), text=f"of tau {tau}")
    assert (run / "audit.old" / OUTPUTS[0]).read_text() == "of tau 0.2"
    assert sorted(path.name for path in run.path.iterdir()) == ["audit.old", "out", "stages"]


def test_unfinished_work_takes_no_results_place(run):
    finish(run, other_tau(0.1), text="of tau 0.1")
    interrupt(run, other_tau(0.2))
    interrupt(run, other_tau(0.3))
    assert (run / "audit.old" / OUTPUTS[0]).read_text() == "of tau 0.1"
    assert (run / "audit.unfinished" / WORK[0]).read_text() == "half"


def test_a_stage_that_goes_on_or_is_new_sets_nothing_aside(run):
    for _ in range(2):
        interrupt(run)
        names = {path.name for path in run.path.iterdir()}
        assert names == {"out", "stages"}


@pytest.mark.parametrize("moved", range(5))
def test_a_crash_while_files_move_loses_none(moved, run, monkeypatch):
    """At each move: what is set aside is whole in the end, and the stage begins anew."""
    finish(run, other_tau(0.1), text="older")
    finish(run, text="result")
    (run / WORK[0]).write_text("partial")
    really_move, moves = shutil.move, []

    def crash(*paths):
        moves.append(paths)
        if len(moves) > moved:
            raise KeyboardInterrupt
        return really_move(*paths)

    monkeypatch.setattr(shutil, "move", crash)
    with pytest.raises(KeyboardInterrupt):
        finish(run, other_tau(0.2))
    monkeypatch.undo()
    assert finish(run, other_tau(0.2), text="new") is None
    assert run.is_current("audit", other_tau(0.2))
    assert (run / "audit.old" / OUTPUTS[0]).read_text() == "result"
    assert (run / "audit.old/out/folder/part.txt").read_text() == "result"
    assert (run / "audit.old" / WORK[0]).read_text() == "partial"
    assert (run / "audit.old/stages/audit.json").exists()
    assert (run / OUTPUTS[0]).read_text() == "new"


def test_what_an_earlier_version_had_begun_begins_anew(run):
    interrupt(run)
    (run / "stages/audit.begun").write_text("0" * 64)
    assert run.reasons("audit", INPUTS) == []
    assert finish(run) is None
    assert (run / "audit.unfinished" / WORK[0]).read_text() == "half"


def test_what_changed_inputs_would_make_again_is_kept(run):
    """Files of an output folder and a whole output; everything beside them is set aside."""
    finish(run)
    (run / "out/folder/other.txt").write_text("of tau 0.01")
    kept = ("out/folder/part.txt", "out/result.txt", "out/folder/never.txt")
    with run.stage("audit", {**INPUTS, "tau": 0.5}, OUTPUTS, WORK, kept):
        assert [p.name for p in (run / "out/folder").iterdir()] == ["part.txt"]
        assert (run / "out/result.txt").read_text() == "result"
    assert (run / "audit.old/out/folder/other.txt").read_text() == "of tau 0.01"
    assert not (run / "audit.old/out/result.txt").exists()
    assert run.is_current("audit", {**INPUTS, "tau": 0.5})


def test_the_manifest_says_what_went_in_and_what_came_out(run):
    finish(run)
    manifest = json.loads((run / "stages/audit.json").read_text())
    assert manifest["inputs"] == {**INPUTS, "adapters": [1, 2]}
    assert manifest["outputs"] == {name: hash_path(run / name) for name in OUTPUTS}
    assert run.seconds() == {"audit": manifest["seconds"]}


def test_hashes_of_folders_see_names_and_contents(tmp_path):
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a/x").write_text("1")
    before = hash_path(folder)
    assert hash_path(folder) == before
    (folder / "a/x").rename(folder / "a/y")
    renamed = hash_path(folder)
    (folder / "a/y").write_text("2")
    assert len({before, renamed, hash_path(folder), hash_path(tmp_path / "absent")}) == 4


def test_a_second_process_is_refused(run):
    program = (
        "from dart_jax.run_dir import RunConfig, RunDir\n"
        f"with RunDir(RunConfig(root={str(run.path.parent)!r})).lock(): pass"
    )
    with run.lock():
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert second.returncode != 0
    assert f"RunBusy: {run.path} is in use by another process" in second.stderr
    third = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert third.returncode == 0, third.stderr


def test_the_lock_holds_within_a_process_too_and_is_given_back(run):
    with run.lock(), pytest.raises(RunBusy), run.lock():
        pass
    with run.lock():
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a/"])
def test_a_run_name_is_one_folder_name(name, tmp_path):
    with pytest.raises(ValueError, match=r"run\.name: .*; give a (plain folder name|text)"):
        RunDir(RunConfig(name=name, root=str(tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()


def test_an_amended_stage_stays_finished(run):
    finish(run)
    run.amend("audit", OUTPUTS[:1], lambda: (run / OUTPUTS[0]).write_text("better"))
    assert run.is_current("audit", INPUTS)
    assert (run / OUTPUTS[0]).read_text() == "better"


def test_an_amendment_hides_no_other_change(run):
    finish(run)
    (run / "out/folder/part.txt").write_text("tampered")
    run.amend("audit", OUTPUTS[:1], lambda: (run / OUTPUTS[0]).write_text("better"))
    assert not run.is_current("audit", INPUTS)


@pytest.fixture
def other(tmp_path):
    return RunDir(RunConfig(name="other", root=str(tmp_path)))


FILES = (*OUTPUTS, *WORK)


def test_a_stage_is_taken_over_from_a_run_with_the_same_inputs(run, other):
    finish(run)
    interrupt(other)
    assert other.adopt("audit", INPUTS, FILES, run)
    assert other.is_current("audit", INPUTS)
    assert (other / "out/folder/part.txt").read_text() == "result"
    assert not (other / WORK[0]).exists()
    assert (other / "audit.unfinished" / WORK[0]).read_text() == "half"
    assert json.loads((other / "stages/audit.json").read_text())["taken_from"] == "run"
    (other / OUTPUTS[0]).write_text("changed here")
    assert run.is_current("audit", INPUTS), "the copies are no links"


@pytest.mark.parametrize("change", [spoil, remove], ids=["rewritten", "deleted"])
def test_what_has_changed_since_is_not_taken_over(change, run, other):
    finish(run)
    change(run / OUTPUTS[0])
    assert not other.adopt("audit", INPUTS, FILES, run)
    assert not (other / "out").exists()


def test_a_stage_on_other_inputs_is_not_taken_over(run, other):
    finish(run)
    assert not other.adopt("audit", {**INPUTS, "tau": 0.5}, FILES, run)
    assert not other.adopt("repair", INPUTS, FILES, run)
    assert run.finished_inputs("audit") == {**INPUTS, "adapters": [1, 2]}
    spoil(run / OUTPUTS[0])
    assert run.finished_inputs("audit") is None
    assert other.finished_inputs("audit") is None


def test_a_crash_while_taking_over_leaves_the_stage_to_run_from_its_beginning(
    run, other, monkeypatch
):
    finish(run)
    interrupt(other)
    copies = []

    def crash(source, target):
        copies.append(target)
        if len(copies) == 2:
            raise KeyboardInterrupt
        target.write_text("half")

    monkeypatch.setattr(run_dir, "copy_path", crash)
    with pytest.raises(KeyboardInterrupt):
        other.adopt("audit", INPUTS, FILES, run)
    assert not other.is_current("audit", INPUTS)
    assert finish(other) is None
    assert (other / OUTPUTS[0]).read_text() == "result"


def test_the_stage_at_work_is_the_one_that_has_not_finished(run):
    assert run.stage_at_work() == ""
    interrupt(run)
    assert run.stage_at_work() == "audit"
    finish(run)
    assert run.stage_at_work() == ""


def test_a_failed_amendment_leaves_the_stage_to_run_again(run):
    finish(run)

    def half():
        (run / OUTPUTS[0]).write_text("half")
        raise ValueError

    with pytest.raises(ValueError):
        run.amend("audit", OUTPUTS[:1], half)
    assert not run.is_current("audit", INPUTS)
