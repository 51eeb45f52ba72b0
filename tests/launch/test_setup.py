"""launch/setup.sh: what a .venv is made with. Its Python notes what pip is asked to install."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = f"""#!/usr/bin/env bash
if [[ "$*" == "-m venv "* ]]; then
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
elif [[ "$*" == "-m pip "* ]]; then
    if [[ "$*" == *" -r "* ]]; then cat "${{@: -1}}" >>installed; fi
    exit "${{PIP_STATUS:-0}}"
else
    exec {sys.executable} -S "$@"
fi
"""
# Makes the environment and installs as the Python above does.
UV = """#!/usr/bin/env bash
case "$*" in
venv*) "${@: -2:1}" -m venv "${@: -1}" ;;
*) printf '%s\\n' "$UV_TORCH_BACKEND" >backend && "$4" -m pip install "${@:6}" ;;
esac
"""
SERVICES = ["aiolimiter", "openai"]
# Of libtpu a line for each jax.
TPU = ["jax[tpu]", "libtpu", "libtpu"]


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "launch").mkdir()
    for name in ("launch/setup.sh", "launch/dependencies.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    write_command(tmp_path / "stand-in", PYTHON)
    return tmp_path


def write_command(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def setup(tree: Path, *extras: str, **variables: str) -> subprocess.CompletedProcess:
    """Run it; `installed` in the tree then holds the requirements that pip was given."""
    (tree / "installed").unlink(missing_ok=True)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(tree / "stand-in")} | variables
    return subprocess.run(
        ["bash", "launch/setup.sh", *extras],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )


def installed(tree: Path) -> list[str]:
    path = tree / "installed"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if not line.startswith("#")]


def names_of_extras(tree: Path) -> list[str]:
    """What was installed beyond the core, without its bounds."""
    extra = [line for line in installed(tree) if line not in core()]
    return sorted(line.partition(">")[0].partition("=")[0] for line in extra)


@cache
def core() -> list[str]:
    """The requirements of what trains, decodes and reports."""
    command = [sys.executable, "-S", str(ROOT / "launch/dependencies.py")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("variables", "jax"),
    [
        ({}, []),
        ({"ACCELERATOR": "tpu"}, TPU),
        ({"ACCELERATOR": "cuda"}, ["jax[cuda13]"]),
        ({"ACCELERATOR": "cuda12"}, ["jax[cuda12]"]),
    ],
)
def test_jax_for_the_accelerator_and_a_second_run_installs_nothing(tree, variables, jax):
    assert setup(tree, **variables).returncode == 0
    assert set(core()) <= set(installed(tree))
    assert names_of_extras(tree) == jax
    for again in ({}, variables):
        done = setup(tree, **again)
        assert (done.returncode, done.stdout, installed(tree)) == (0, "", [])


def test_an_accelerator_is_added_and_kept(tree):
    setup(tree)
    assert setup(tree, ACCELERATOR="tpu").returncode == 0
    assert names_of_extras(tree) == TPU
    project = tree / "pyproject.toml"
    project.write_text(project.read_text().replace("tqdm>=4.70", "tqdm>=4.71"))
    assert setup(tree).returncode == 0
    assert {"jax[tpu]", "tqdm>=4.71,<5"} <= set(installed(tree))


def test_extras_are_added_and_kept(tree):
    setup(tree)
    assert setup(tree, "services").returncode == 0
    assert names_of_extras(tree) == SERVICES
    assert setup(tree, "hub").returncode == 0
    assert names_of_extras(tree) == sorted([*SERVICES, "datasets"])
    for again in ((), ("hub",), ("services", "hub")):
        done = setup(tree, *again)
        assert (done.returncode, done.stdout, installed(tree)) == (0, "", [])


def test_an_unknown_extra_is_refused(tree):
    done = setup(tree, "hubb")
    assert done.returncode == 1
    assert "there is no extra hubb; pyproject.toml has services, classifiers, hub" in done.stderr
    assert not (tree / ".venv").exists()


def test_an_interrupted_setup_is_made_good_with_what_was_there(tree):
    setup(tree, "services", ACCELERATOR="cuda")
    (tree / ".venv/.unfinished").touch()
    done = setup(tree)
    assert "removing a .venv that is unfinished" in done.stdout
    assert names_of_extras(tree) == [*SERVICES[:1], "jax[cuda13]", *SERVICES[1:]]


def test_a_failure_of_pip_is_made_good_for_the_same_accelerator(tree):
    assert setup(tree, ACCELERATOR="tpu", PIP_STATUS="1").returncode == 1
    assert setup(tree).returncode == 0
    assert names_of_extras(tree) == TPU


def test_an_extra_that_failed_is_not_asked_for_again(tree):
    setup(tree, "services")
    assert setup(tree, "classifiers", PIP_STATUS="1").returncode == 1
    assert setup(tree).returncode == 0
    assert names_of_extras(tree) == SERVICES


def test_another_accelerator_needs_another_venv(tree):
    setup(tree, ACCELERATOR="tpu")
    done = setup(tree, ACCELERATOR="cuda")
    assert done.returncode == 1
    assert ".venv has jax for tpu, ACCELERATOR asks for cuda" in done.stderr
    assert not installed(tree)


def test_an_unknown_accelerator_is_refused(tree):
    done = setup(tree, ACCELERATOR="gpu")
    assert done.returncode == 1
    assert "ACCELERATOR=gpu is none of cpu, tpu, cuda, cuda12" in done.stderr
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("name", ["python3", "python3.14", "python3.13", "python3.11", "python"])
def test_each_name_of_a_python_is_tried(tree, name):
    """Others of these names are shims that do not run."""
    for other in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        write_command(tree / other, "#!/usr/bin/env bash\nexit 127\n")
    write_command(tree / name, PYTHON)
    done = setup(tree, PYTHON="", PATH=f"{tree}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert installed(tree)


@pytest.mark.parametrize(("variables", "backend"), [({}, "cpu"), ({"ACCELERATOR": "cuda"}, "")])
def test_uv_is_used_where_it_is_and_takes_torch_for_the_cpu(tree, variables, backend):
    write_command(tree / "uv", UV)
    path = {"PATH": f"{tree}:{os.environ['PATH']}", "UV_TORCH_BACKEND": ""}
    done = setup(tree, "classifiers", **path, **variables)
    assert done.returncode == 0, done.stderr
    assert "torch==2.13.0" in installed(tree)
    assert (tree / "backend").read_text().strip() == backend


def test_windows_itself_is_refused(tree):
    write_command(tree / "uname", "#!/usr/bin/env bash\necho MINGW64_NT-10.0\n")
    done = setup(tree, PATH=f"{tree}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "on Windows, run this in WSL" in done.stderr
