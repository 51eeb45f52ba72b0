"""A tiny random Llama in Hugging Face's form, and runs of the whole pipeline on it.

tests/conftest.py loads these fixtures, so that the tests of all folders share one finished run.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from dart_jax.train import main
from tests.loopback_judge import judge_server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a 2-layer Llama with random weights and a tokenizer of the suite's own words."""
    pytest.importorskip("torch")
    from tests.tiny_model import write_model  # imports jax, for which other tests need not wait

    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder)
    return folder


@pytest.fixture(scope="session")
def retrained(tiny_model, tmp_path_factory) -> Path:
    """The tiny model after some training, as it were: the same files and sizes, other weights."""
    from dart_jax.model.load import open_checkpoint
    from tests.tiny_model import hf_twin

    folder = tmp_path_factory.mktemp("retrained")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    config, _ = open_checkpoint(folder)
    hf_twin(config, seed=1).save_pretrained(folder)
    sizes = [{f.name: f.stat().st_size for f in path.iterdir()} for path in (tiny_model, folder)]
    assert sizes[0] == sizes[1]
    return folder


@pytest.fixture(scope="session")
def judge():
    """The judge's server: `url`, `asked`, `fails`."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    with judge_server() as server:
        yield server


@pytest.fixture(scope="session")
def settings(tiny_model, judge):
    """A function: the command line of a small run in a folder, with overrides."""

    def run(root: Path, **overrides: object) -> list[str]:
        values: dict[str, object] = {
            "run.root": root,
            "model.path": tiny_model,
            "data.max_train": 8,
            "data.max_validation": 8,
            "data.max_test": 8,
            "lora.rank": 2,
            "sft.epochs": 2,
            "sft.batch_size": 8,
            "sft.learning_rate": 0.03,
            "sft.checkpoint_every": 1,
            "decode.max_new_tokens": 8,
            "decode.slots": 8,
            "audit.pool_splits": '["validation"]',
            # Every pair is screened, and the judge confirms about half of them.
            "audit.tau": -1,
            "judge.provider": "openai",
            "judge.model": "hash",
            "judge.base_url": judge.url,
            "judge.api_key_env": "NO_SUCH_KEY",
            "repair.epochs": 1,
            # The scorer, so that the judge is asked in the audits alone.
            "repair.require_safer": "scorer",
            "evaluate.bootstrap_samples": 50,
            # Two more programs to compile for every run; test_auto_tau.py has them.
            "evaluate.first_tokens": 0,
        }
        values |= {key.replace("__", "."): value for key, value in overrides.items()}
        return [f"--{key}={value}" for key, value in values.items()]

    return run


@pytest.fixture(scope="session")
def finished(settings, tmp_path_factory) -> Path:
    """The folder of one finished run; tests that change it work on a copy."""
    root = tmp_path_factory.mktemp("runs")
    assert main(settings(root)) == 0
    return root / "run"


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished run, to be changed; its root is `tmp_path`."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="session")
def summary_of():
    """A function: a run's summary."""

    def read(folder: Path) -> dict:
        return json.loads((folder / "evaluation/summary.json").read_text("utf-8"))

    return read
