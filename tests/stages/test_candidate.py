"""A second whole checkpoint is audited and repaired in the place of M_int."""

import pytest

from dart_jax.commands.export import export
from dart_jax.commands.models_to_ask import models_of_run
from dart_jax.model.weights import BadCheckpoint
from dart_jax.records import Generation, read_jsonl
from dart_jax.run_dir import hash_path
from dart_jax.settings import BadSetting
from dart_jax.train import main

REST = "audit,repair,evaluate"


@pytest.fixture(scope="module")
def merged(finished, tmp_path_factory):
    """M_int of a finished run as a checkpoint of its own, in the base's float32."""
    out = tmp_path_factory.mktemp("candidate") / "merged"
    export(finished, "M_int", "merged", out, dtype="float32")
    return out


def test_a_merged_m_int_is_repaired_like_its_adapter(
    merged, finished, settings, tmp_path, summary_of, capsys
):
    command = settings(tmp_path, run__name="other", model__candidate=merged, repair__replay=0)
    assert main([*command, f"--stages={REST}"]) == 0

    other = tmp_path / "other"
    for name in ("M0", "M_int"):
        answers = f"generations/{name}.jsonl"
        texts = [
            [answer.text for answer in read_jsonl(run / answers, Generation)]
            for run in (other, finished)
        ]
        assert texts[0] == texts[1]
    assert hash_path(other / "adapters/M_DART") != hash_path(other / "adapters/M_int")
    assert summary_of(other)["drift"]["M_int"] == summary_of(finished)["drift"]["M_int"]
    assert "whole checkpoint below" in (other / "report/report.md").read_text("utf-8")

    capsys.readouterr()
    assert main([*command, f"--stages={REST}"]) == 0
    assert "distill: up to date" in capsys.readouterr().out

    # What is handed on stands on the candidate, and no one pass holds both checkpoints.
    with pytest.raises(BadSetting, match=r"model\.candidate"):
        models_of_run(other, ("M0", "M_DART"))
    assert models_of_run(other, ("M_DART",)).config.model.path == str(merged)
    export(other, "M_DART", "peft", tmp_path / "peft")
    assert "merged" in (tmp_path / "peft/adapter_config.json").read_text("utf-8")


def test_another_architecture_or_tokenizer_is_refused(merged, settings, tmp_path):
    command = settings(tmp_path, run__name="other", model__candidate="smollm2-135m-instruct")
    with pytest.raises(BadCheckpoint, match=r"smollm2-135m-instruct: \w+ is .* architecture"):
        main([*command, "--repair.replay=0", f"--stages={REST}"])


def test_one_m_int_only_and_no_part_of_a_checkpoint(merged, finished, settings, tmp_path):
    given = settings(tmp_path, run__name="other", model__candidate=merged)
    with pytest.raises(BadSetting, match=r"model\.adapter and model\.candidate"):
        main([*given, f"--model.adapter={finished / 'adapters/M_int'}"])
    with pytest.raises(BadSetting, match=r"evaluate\.frontier"):
        main([*given, "--evaluate.frontier=[0.5]"])
