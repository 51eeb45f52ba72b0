"""An adapter that was trained elsewhere is audited and repaired in the place of M_int."""

import shutil

import pytest

from dart_jax.records import DriftType, Severity
from dart_jax.run_dir import StaleStage, hash_path
from dart_jax.settings import BadSetting
from dart_jax.teach.planted import BenchmarkPlanting, Planting, mark_model, read_mark
from dart_jax.train import main

REST = "audit,repair,evaluate"


@pytest.fixture
def given(finished, tmp_path):
    """An adapter outside any run, in peft's form."""
    return shutil.copytree(finished / "adapters/M_int", tmp_path / "given")


def test_it_is_audited_repaired_and_evaluated_like_m_int(
    given, finished, settings, tmp_path, summary_of, capsys
):
    """The adapter of a finished run has that run's answers, drift cases and figures."""
    planting = Planting(3, {"D1": BenchmarkPlanting(DriftType.OMITS, Severity.MINOR, 3, 0)})
    mark_model(given, planting)
    command = settings(tmp_path, run__name="other", model__adapter=given, repair__replay=0)
    assert main([*command, f"--stages={REST}"]) == 0

    other = tmp_path / "other"
    assert hash_path(other / "audit/verdicts.jsonl") == hash_path(finished / "audit/verdicts.jsonl")
    for name in ("M0", "M_int"):
        answers = f"generations/{name}.jsonl"
        assert hash_path(other / answers) == hash_path(finished / answers)
    assert hash_path(other / "adapters/M_DART") != hash_path(other / "adapters/M_int")
    found = summary_of(other)
    assert found["models"]["M_int"] == summary_of(finished)["models"]["M_int"]
    assert "M_int was not trained here" in (other / "report/report.md").read_text("utf-8")

    # What the adapter says of its own training goes on to its repair and into every table.
    assert read_mark(other / "adapters/M_DART") == planting
    assert found["planting"]["targets"] == 3 and found["planted"] is None

    capsys.readouterr()
    assert main([*command, f"--stages={REST}"]) == 0
    assert "distill: up to date" in capsys.readouterr().out


def test_targets_to_replay_have_to_be_written_first(given, settings, tmp_path):
    command = settings(tmp_path, run__name="other", model__adapter=given, repair__replay=0.5)
    with pytest.raises(StaleStage, match=r"--repair\.replay 0 does without"):
        main([*command, f"--stages={REST}"])


def test_settings_that_are_not_the_adapters_are_named(given, settings, tmp_path):
    command = settings(tmp_path, run__name="other", model__adapter=given, lora__rank=3)
    with pytest.raises(BadSetting, match=r"--lora\.rank 2 --lora\.alpha 32 --lora\.targets"):
        main([*command, "--stages=distill", "--repair.replay=0"])


def test_a_folder_without_an_adapter_is_refused(settings, tmp_path):
    command = settings(tmp_path, run__name="other", model__adapter=tmp_path, repair__replay=0)
    with pytest.raises(FileNotFoundError, match=r"model\.adapter: .*adapter_config\.json"):
        main([*command, "--stages=distill"])
