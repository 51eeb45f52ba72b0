"""What the command refuses before any work: settings, keys, data and stages out of order."""

import json
import os
import pickle
from pathlib import Path

import pytest

from dart_jax.backend import WrongDevices
from dart_jax.chat.endpoint import MissingKey
from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.data.safe_pickle import UnreadablePickle, UnsafePickle
from dart_jax.records import BadRecord
from dart_jax.run_dir import RunBusy, RunConfig, RunDir, StaleStage
from dart_jax.settings import BadSetting
from dart_jax.train import main

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "difference_awareness"


@pytest.fixture
def refuse(tmp_path):
    """A function: the message of the error that stops a run; no stage may have begun."""

    def run(error, *args):
        with pytest.raises(error) as stopped:
            main([f"--run.root={tmp_path / 'runs'}", *args])
        assert not (tmp_path / "runs/run/stages").exists(), "work had begun"
        return str(stopped.value)

    return run


@pytest.fixture
def suite(tmp_path):
    """A folder that holds the eight files of the real suite, all of them empty."""
    folder = tmp_path / "suite"
    folder.mkdir()
    for name in BENCHMARKS:
        (folder / f"{name}.jsonl").write_text("")
    return folder


def with_data(folder):
    return "--data.suite=difference_awareness", f"--data.dir={folder}"


@pytest.mark.parametrize("role", ["teacher", "judge"])
def test_missing_api_key_names_the_variable(role, refuse, monkeypatch):
    monkeypatch.delenv("SOME_SERVICE_KEY", raising=False)
    service = f"--{role}.provider=openai", f"--{role}.model=m"
    assert "SOME_SERVICE_KEY" in refuse(
        MissingKey, *service, f"--{role}.api_key_env=SOME_SERVICE_KEY"
    )


@pytest.mark.parametrize("role", ["teacher", "judge"])
def test_a_server_needs_a_model_name(role, refuse, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert f"{role}.model" in refuse(ValueError, f"--{role}.provider=openai")


def test_secrets_stay_out_of_the_run_folder(refuse, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    refuse(ValueError, "--teacher.provider=openai", "--teacher.model=m", "--judge.provider=openai")
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {"config.yaml", "versions.json"} <= {path.name for path in written}
    assert not [path for path in written if b"very-secret" in path.read_bytes()]


def test_a_missing_model_is_named_before_the_teacher_is_asked(refuse):
    message = refuse(FileNotFoundError, "--model.path=no/such/model")
    assert message.startswith("model.path: no/such/model is neither a folder nor a file")


def test_a_gpu_that_was_asked_for_and_is_not_there(refuse, monkeypatch):
    monkeypatch.setenv("ACCELERATOR", "cuda")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    message = refuse(WrongDevices)
    assert message.startswith("ACCELERATOR=cuda, but jax found only a CPU")


def test_missing_data_folder(refuse, tmp_path):
    assert "data.dir" in refuse(ValueError, "--data.suite=difference_awareness")
    message = refuse(FileNotFoundError, *with_data(tmp_path / "nowhere"))
    assert "nowhere: no such folder" in message


def test_a_missing_benchmark_is_named(refuse, suite):
    (suite / "N2.jsonl").unlink()
    assert "N2.jsonl" in refuse(FileNotFoundError, *with_data(suite))


def test_a_bad_line_is_named_by_file_and_number(refuse, suite):
    row = (
        '{"id": "D1-diff-0000", "benchmark": "D1", "condition": "diff", "question": "q", '
        '"answer": 0, "scenario_id": "0"}\n'
    )
    (suite / "D1.jsonl").write_text(row + row.replace('"answer": 0', '"answer": "a"'))
    assert f"{suite / 'D1.jsonl'}:2: answer" in refuse(BadRecord, *with_data(suite))


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /nowhere/at/all",)


def test_a_hostile_pickle_is_refused_with_the_name_it_calls(refuse, suite):
    (suite / "D1.jsonl").unlink()
    (suite / "D1_1k.pkl").write_bytes(pickle.dumps([Hostile()]))
    message = refuse(UnsafePickle, *with_data(suite))
    assert "D1_1k.pkl" in message
    assert f"{os.system.__module__}.system" in message


def test_an_unreadable_pickle_is_named(refuse, suite):
    (suite / "D1.jsonl").unlink()
    (suite / "D1_1k.pkl").write_bytes(b"\x80\x04no pickle")
    assert "D1_1k.pkl" in refuse(UnreadablePickle, *with_data(suite))


@pytest.mark.parametrize("argument", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_an_empty_split_is_named(argument, refuse, tmp_path):
    rows = [{"id": f"{n}", "question": f"May {n}?", "label": "NO"} for n in range(3)]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = "--data.suite=jsonl", f"--data.file={tmp_path / 'few.jsonl'}"
    assert "split is empty" in refuse(ValueError, *own, *argument)


@pytest.mark.parametrize(
    ("splits", "message"), [("validation,test", "contains test"), ("[]", "is empty")]
)
def test_test_prompts_are_no_drift_pool(splits, message):
    with pytest.raises(BadSetting, match=f"audit.pool_splits {message}"):
        main([f"--audit.pool_splits={splits}"])


def test_a_stage_whose_inputs_were_never_made_says_what_to_run(refuse):
    message = refuse(StaleStage, "--stages=audit")
    assert message.startswith("stage teach is not up to date")
    assert "--stages teach" in message


def test_a_run_in_use_is_refused(tmp_path):
    with RunDir(RunConfig(root=str(tmp_path))).lock(), pytest.raises(RunBusy):
        main([f"--run.root={tmp_path}"])


def test_file_teacher_covers_the_mini_suite_only(tmp_path):
    if not REAL.exists():
        pytest.skip("the real suite is not on this machine")
    with pytest.raises(ValueError, match=r"teacher\.provider"):
        main(
            [
                f"--run.root={tmp_path}",
                *with_data(REAL),
                "--teacher.provider=file",
                "--data.max_train=8",
                "--stages=teach",
            ]
        )


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("--mesh.fsdp=3",), "mesh.fsdp: 3, mesh.tensor: 1; there are"),
        (("--audit.screen_by=foo",), "audit.screen_by is 'foo', not any, profanity"),
        (("--sft.loss.fn=no_such_module.loss",), "cannot import no_such_module"),
        (("--teacher.provider=openai",), "teacher.provider openai needs teacher.model"),
        (("--decode.max_new_tokens=8192",), "lower decode.max_new_tokens"),
        (("--data.split_by=none",), "stage evaluate needs test questions"),
        (("--model.path=no/such/model",), "no/such/model is neither a folder nor a file"),
    ],
)
def test_a_dry_run_finds_what_the_run_would(settings, message, dry, refuse):
    assert message in refuse((ValueError, OSError), "--judge.provider=local", *settings, *dry)
