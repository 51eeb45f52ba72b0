"""launch/setup.sh: which jax a .venv is made for. Its Python notes what pip is asked to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = f"""#!/usr/bin/env bash
if [[ "$*" == "-m venv "* ]]; then
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
elif [[ "$*" == "-m pip "* ]]; then
    printf '%s\\n' "${{@: -1}}" >>installed
    exit "${{PIP_STATUS:-0}}"
else
    exec {sys.executable} "$@"
fi
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch/setup.sh", tmp_path / "launch")
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    python = tmp_path / "stand-in"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def setup(tree: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run it; `installed` in the tree then holds the last word of every call of pip."""
    (tree / "installed").unlink(missing_ok=True)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(tree / "stand-in")} | variables
    return subprocess.run(
        ["bash", "launch/setup.sh"], cwd=tree, env=environment, capture_output=True, text=True
    )


def installed(tree: Path) -> list[str]:
    path = tree / "installed"
    return path.read_text().splitlines()[:1] if path.exists() else []


@pytest.mark.parametrize(
    ("variables", "jax"),
    [
        ({}, "jax"),
        ({"ACCELERATOR": "tpu"}, "jax[tpu]"),
        ({"ACCELERATOR": "cuda"}, "jax[cuda13]"),
    ],
)
def test_jax_for_the_accelerator_and_a_second_run_installs_nothing(tree, variables, jax):
    assert setup(tree, **variables).returncode == 0
    assert installed(tree) == [jax]
    for again in ({}, variables):
        done = setup(tree, **again)
        assert (done.returncode, done.stdout, installed(tree)) == (0, "", [])


def test_an_accelerator_is_added_and_kept(tree):
    setup(tree)
    assert setup(tree, ACCELERATOR="tpu").returncode == 0
    assert installed(tree) == ["jax[tpu]"]
    with open(tree / "requirements.txt", "a") as file:
        file.write("# changed\n")
    assert setup(tree).returncode == 0
    assert installed(tree) == ["jax[tpu]"]


def test_an_interrupted_setup_is_made_good_for_the_same_accelerator(tree):
    setup(tree, ACCELERATOR="cuda")
    (tree / ".venv/.unfinished").touch()
    done = setup(tree)
    assert "removing a .venv that is unfinished" in done.stdout
    assert installed(tree) == ["jax[cuda13]"]


def test_a_failure_of_pip_is_made_good_for_the_same_accelerator(tree):
    assert setup(tree, ACCELERATOR="tpu", PIP_STATUS="1").returncode == 1
    assert setup(tree).returncode == 0
    assert installed(tree) == ["jax[tpu]"]


def test_another_accelerator_needs_another_venv(tree):
    setup(tree, ACCELERATOR="tpu")
    done = setup(tree, ACCELERATOR="cuda")
    assert done.returncode == 1
    assert ".venv has jax for tpu, ACCELERATOR asks for cuda" in done.stderr
    assert not installed(tree)


def test_an_unknown_accelerator_is_refused(tree):
    done = setup(tree, ACCELERATOR="gpu")
    assert done.returncode == 1
    assert "ACCELERATOR=gpu is none of cpu, tpu, cuda" in done.stderr
    assert not (tree / ".venv").exists()
