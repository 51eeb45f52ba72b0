"""Audit and repair in more than one cycle: what is added, resumed, and when it ends."""

import json

import pytest

from dart_jax.audit.drift import TooManyFailures
from dart_jax.pipeline.finished import read_finished, run_folder
from dart_jax.records import DriftCase, Generation, Target, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.stages.cycles import Cycle, cycles_run, later_models
from dart_jax.teach.config import RepairConfig
from dart_jax.train import main

FIRST_CYCLE = ("teach", "distill", "audit", "repair")


def adapters(folder, **contents):
    for name, text in contents.items():
        (folder / f"adapters/{name}").mkdir(parents=True)
        (folder / f"adapters/{name}/weights").write_text(text)


def test_a_cycles_model_is_the_next_ones_and_the_first_keeps_its_paths():
    first, second, third = map(Cycle, (1, 2, 3))
    assert (first.before, first.after) == ("M_int", "M_DART")
    assert (second.before, second.after) == ("M_DART", "M_DART_2")
    assert (third.before, third.after) == ("M_DART_2", "M_DART_3")
    assert first.path("audit/scores.jsonl") == "audit/scores.jsonl"
    assert first.stage_name("audit") == "audit"
    assert second.path("audit/scores.jsonl") == "cycles/2/audit/scores.jsonl"
    assert third.stage_name("repair") == "repair_3"


def test_the_first_cycle_that_repairs_nothing_is_the_last(tmp_path):
    adapters(tmp_path, M_int="a", M_DART="b", M_DART_2="c", M_DART_3="c", M_DART_4="old")
    assert [cycle.number for cycle in cycles_run(tmp_path, 9)] == [1, 2, 3]
    assert [cycle.number for cycle in cycles_run(tmp_path, 2)] == [1, 2]
    assert later_models(tmp_path, 9) == ["M_DART_2"]
    assert later_models(tmp_path, 1) == []


def test_no_cycle_at_all_is_refused():
    with pytest.raises(ValueError, match=r"repair\.cycles"):
        RepairConfig(cycles=0)


def test_a_second_cycle_is_added_to_a_finished_run_and_resumes(
    copied, settings, tmp_path, judge, monkeypatch, summary_of, capsys
):
    first = {name: hash_path(copied / name) for name in ("audit", "repair", "adapters/M_DART")}
    two = settings(tmp_path, repair__cycles=2, judge__max_failure_share=0)
    # M_DART may write what M_int wrote; the judge is to be asked about it all the same.
    for path in copied.glob("responses.sqlite*"):
        path.unlink()
    monkeypatch.setattr(judge, "fails", lambda question: True)
    with pytest.raises(TooManyFailures):
        main(two)
    answers = copied / "cycles/2/audit/generations/M_DART.jsonl"
    assert {a.model for a in read_jsonl(answers, Generation)} == {"M_DART"}
    capsys.readouterr()

    monkeypatch.setattr(judge, "fails", lambda question: False)
    assert main(two) == 0
    printed = capsys.readouterr().out
    assert all(f"{stage}: up to date" in printed for stage in FIRST_CYCLE)
    assert "[5/7] audit_2\n" in printed
    assert first == {name: hash_path(copied / name) for name in first}

    cases = read_jsonl(copied / "cycles/2/audit/drift_cases.jsonl", DriftCase)
    assert cases and {case.candidate for case in cases} == {"M_DART"}
    targets = read_jsonl(copied / "cycles/2/repair/targets.jsonl", Target)
    assert {target.question_id for target in targets} <= {case.question_id for case in cases}
    assert hash_path(copied / "adapters/M_DART_2") != first["adapters/M_DART"]

    summary = summary_of(copied)
    assert [(row["audited"], row["model"]) for row in summary["cycles"]] == [
        ("M_int", "M_DART"),
        ("M_DART", "M_DART_2"),
    ]
    assert summary["cycles"][0]["test"] == summary["models"]["M_DART"]
    assert summary["cycles"][0]["drift"] == summary["drift"]["M_DART"]
    assert summary["cycles"][0]["pool"] == summary["drift_pool"]
    assert summary["cycles"][1]["pool"]["confirmed"] == len(cases)
    assert summary["cycles"][1]["repairs"] == len(targets)
    assert {"audit_2", "repair_2"} < set(summary["seconds"])
    assert "| 2 | M_DART | M_DART_2 |" in (copied / "report/report.md").read_text("utf-8")

    assert main(two) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert read_finished(run_folder(copied)).adapter("M_DART_2").is_dir()


def test_the_loop_ends_where_nothing_is_confirmed(copied, settings, tmp_path, summary_of, capsys):
    assert main(settings(tmp_path, repair__cycles=3, audit__tau=1.0)) == 0
    assert "cycle 1 of 3 repaired nothing: no further one" in capsys.readouterr().out
    assert not (copied / "cycles").exists() and not (copied / "stages/audit_2.json").exists()
    summary = summary_of(copied)
    assert [row["model"] for row in summary["cycles"]] == ["M_DART"]
    assert "3 cycles were planned" in (copied / "report/report.md").read_text("utf-8")
    manifest = json.loads((copied / "stages/evaluate.json").read_text("utf-8"))
    assert len(manifest["inputs"]["adapters"]) == 2
