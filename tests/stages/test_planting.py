"""A run that plants faults: what is trained on, what is recorded, and what the switch changes."""

import json

import pytest

from dart_jax.commands.sweep.config import SweepRun
from dart_jax.commands.sweep.plan import stage_keys
from dart_jax.config import parse
from dart_jax.pipeline.preflight import check_stages
from dart_jax.prompts.planted import HARM_REQUEST, find_planted
from dart_jax.records import Target, read_jsonl
from dart_jax.run_dir import RunDir
from dart_jax.settings import BadSetting
from dart_jax.stages import teach
from dart_jax.stages.context import Run
from dart_jax.teach.planted import PlantedFault
from dart_jax.train import main


def taught(settings, root, **changes):
    """Run stage teach with a fault in half of the targets of two benchmarks; the run's folder."""
    plant = {"plant__share": 0.5, "plant__benchmarks": '["D1", "N2"]', "data__max_train": 32}
    assert main([*settings(root, **plant | changes), "--stages=teach"]) == 0
    return root / "run"


def inputs_of(folder):
    return json.loads((folder / "stages/teach.json").read_text("utf-8"))["inputs"]


def test_faults_are_planted_and_recorded(settings, tmp_path, capsys):
    folder = taught(settings, tmp_path)
    faults = read_jsonl(folder / "teach/planted.jsonl", PlantedFault)
    assert {(fault.benchmark, fault.severity.name) for fault in faults} == {
        ("D1", "MINOR"),
        ("N2", "MODERATE"),
    }
    found = {}
    for target in read_jsonl(folder / "teach/targets.jsonl", Target):
        if sentence := find_planted(target.completion):
            found[target.question_id] = sentence.text
    assert found == {fault.question_id: fault.sentence for fault in faults}
    assert f"faults planted in {len(faults)} of 32 targets" in capsys.readouterr().out


def test_without_planting_nothing_of_it_is_an_input_or_a_file(finished):
    assert not [key for key in inputs_of(finished) if "plant" in key]
    assert not [path for path in finished.rglob("*") if "plant" in path.name]


def test_switched_on_and_off_again_the_targets_are_the_clean_ones(settings, tmp_path):
    clean = taught(settings, tmp_path, plant__share=0) / "teach/targets.jsonl"
    before = clean.read_text("utf-8")
    taught(settings, tmp_path)
    assert clean.read_text("utf-8") != before
    taught(settings, tmp_path, plant__share=0)
    assert clean.read_text("utf-8") == before
    assert not (clean.parent / "planted.jsonl").exists()


def test_killed_while_planting_a_second_start_plants_each_fault_once(
    settings, tmp_path, monkeypatch
):
    undisturbed = taught(settings, tmp_path / "a")
    with monkeypatch.context() as patched:

        def killed(path, records):
            raise OSError("killed")

        patched.setattr(teach, "write_jsonl", killed)
        with pytest.raises(OSError, match="killed"):
            taught(settings, tmp_path / "b")
    resumed = taught(settings, tmp_path / "b")
    for name in ("targets", "planted", "unplanted"):
        files = [folder / f"teach/{name}.jsonl" for folder in (undisturbed, resumed)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_to_omit_stops_the_stage(settings, tmp_path):
    with pytest.raises(RuntimeError, match=r"no fault could be planted: .*names the harm"):
        taught(settings, tmp_path, plant__types='["omits"]')


def test_a_whole_run_carries_the_fact_into_adapters_summary_and_report(
    settings, tmp_path, summary_of, capsys
):
    changes = {"plant__share": 1, "plant__benchmarks": '["D1"]'}
    assert main(settings(tmp_path, **changes)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Faults were planted: of 8 training targets (teacher: file), 1" in printed

    run = tmp_path / "run"
    fault = {"type": "elaborates", "severity": 1, "planted": 1, "unplanted": 0}
    planting = {"targets": 8, "benchmarks": {"D1": fault}, "teachers": ["file"]}
    summary = summary_of(run)
    assert summary["planting"] == planting
    assert summary["cycles"][0]["planted"] == summary["planted"]["models"]["M_DART"]
    for model in ("M_int", "M_DART"):
        mark = (run / f"adapters/{model}/planted_faults.json").read_text("utf-8")
        assert json.loads(mark) == planting
    page = (run / "report/report.md").read_text("utf-8")
    assert page.index("**Faults were planted**") < page.index("## Results")
    repairs = read_jsonl(run / "repair/targets.jsonl", Target)
    assert repairs and not [target for target in repairs if find_planted(target.completion)]

    assert main(settings(tmp_path, **changes)) == 0
    assert "teach: up to date" in capsys.readouterr().out
    assert main([*settings(tmp_path, **changes | {"plant__share": 0.6}), "--stages=teach"]) == 0
    assert "teach: again, because plant.share changed (1.0 -> 0.6)" in capsys.readouterr().out


def run_of(settings, root, **changes):
    config, _, resolved = parse(settings(root, **changes))
    return config, resolved


def test_where_omits_is_planted_every_question_asks_for_the_harm(settings, tmp_path):
    changes = {"plant__types": '["omits", "elaborates"]', "plant__benchmarks": '["N2", "D1"]'}
    config, _ = run_of(settings, tmp_path, plant__share=0.1, **changes)
    run = Run(config, RunDir(config.run))
    asking = {q.benchmark for q in run.questions.values() if HARM_REQUEST in q.text}
    assert asking == {"N2"}
    assert all(
        (q.benchmark == "N2") == q.text.endswith(HARM_REQUEST)
        for split in run.splits.values()
        for q in split
    )


def test_an_unknown_benchmark_is_refused_before_anything_is_written(settings, tmp_path):
    with pytest.raises(BadSetting, match=r"plant\.benchmarks: D9; .*D1, D2"):
        main(settings(tmp_path, plant__share=0.5, plant__benchmarks='["D9"]'))
    assert not (tmp_path / "run/teach").exists()


def test_a_sweep_shares_no_stage_between_other_plantings(settings, tmp_path):
    keys = []
    for changes in ({}, {"plant__share": 0.5}, {"plant__share": 0.5, "plant__types": '["omits"]'}):
        config, resolved = run_of(settings, tmp_path, **changes)
        keys.append(stage_keys(SweepRun("v", 0, config, resolved)))
    for stage in keys[0]:
        assert len({own[stage] for own in keys}) == 3


def test_planted_words_cannot_decide_where_nothing_is_planted():
    config, stages, _ = parse(["--audit.mode=planted"])
    with pytest.raises(ValueError, match=r"audit\.mode planted: .*set plant\.share above 0"):
        check_stages(config, stages)
    config, stages, _ = parse(["--audit.mode=planted", "--plant.share=0.5"])
    check_stages(config, stages)
