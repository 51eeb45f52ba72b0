"""shellcheck has nothing to say about the scripts, nor about those inside of YAML files."""

import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci/run"]


def shellcheck(*words: str | Path, text: str | None = None) -> str:
    """What it prints; nothing, when all is well."""
    command = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which(
        "shellcheck"
    )
    if not command:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([command, *words], input=text, capture_output=True, text=True, cwd=ROOT)
    return done.stdout + done.stderr


def embedded() -> dict[str, str]:
    """Scripts in the YAML files."""
    sky = yaml.safe_load((ROOT / "launch/skypilot.yaml").read_text("utf-8"))
    template = string.Template((ROOT / "launch/gke_jobset.yaml").read_text("utf-8"))
    variables = {"HOSTS": "2", "CHIPS": "4", "REPO": "a.git", "REF": "main"}
    gke = yaml.safe_load(template.safe_substitute(variables))
    pod = gke["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    [script] = pod["containers"][0]["args"]
    return {"skypilot setup": sky["setup"], "skypilot run": sky["run"], "gke": script}


def test_scripts() -> None:
    assert shellcheck("-x", *SCRIPTS) == ""


@pytest.mark.parametrize("name", embedded())
def test_embedded_scripts(name: str) -> None:
    assert shellcheck("--shell=bash", "-", text=embedded()[name]) == ""


def test_a_mistake_is_found() -> None:
    assert "SC2086" in shellcheck("--shell=bash", "-", text="echo $1\n")
