"""A copy of the tree whose training only notes how it was started, and a folder of commands.

The scripts under test are the real ones; setup.sh and the Python of .venv are stand-ins.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SETUP = r"""#!/usr/bin/env bash
cd "$(dirname "${BASH_SOURCE[0]}")/.."
printf '%s' "${ACCELERATOR:-}" >made_for
mkdir -p .venv/bin
printf '%s\n' "$*" >>"$RECORD/setups"
cat >.venv/bin/new.$$ <<'PYTHON'
#!/usr/bin/env bash
if [ "${2:-}" = dart_jax.commands.needed_extras ]; then
    printf '%s\n' "${NEEDED_EXTRAS:-}"
    exit "${NEEDED_STATUS:-0}"
fi
if [ -n "${HOLD:-}" ]; then
    sleep 60 >/dev/null 2>&1 &
    trap 'kill $!; exit 143' TERM
fi
note=$RECORD/train-${SLURM_PROCID:-0}-$$
env -0 >"$note.env"
printf '%s\0' "$PWD" "$@" >"$note.new"
mv "$note.new" "$note.args"
wait
PYTHON
chmod +x .venv/bin/new.$$
mv .venv/bin/new.$$ .venv/bin/python # tasks do this at the same time
"""


class Tree:
    """The copied tree, the commands it may call, and the notes of what was started."""

    def __init__(self, folder: Path):
        self.root = folder / "a tree"
        self.record = folder / "record"
        self.commands = folder / "commands"
        for path in (self.root / "configs", self.root / "dart_jax", self.record, self.commands):
            path.mkdir(parents=True)
        shutil.copytree(ROOT / "launch", self.root / "launch")
        (self.root / "launch/setup.sh").write_text(SETUP)
        (self.root / "pyproject.toml").touch()
        path = f"{self.commands}:{os.environ['PATH']}"
        home = folder / "home"
        home.mkdir()
        self.environment = {"PATH": path, "HOME": str(home), "RECORD": str(self.record)}

    def command(self, name: str, body: str, interpreter: str = "/usr/bin/env bash") -> None:
        """Put a command in front of PATH."""
        path = self.commands / name
        path.write_text(f"#!{interpreter}\n{body}")
        path.chmod(0o755)

    def python_command(self, name: str, body: str) -> None:
        self.command(name, body, f"{sys.executable} -S")

    def start(self, *words: str | Path, **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", *words],
            cwd=self.root,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess:
        """Run bash with these words in the tree, with these variables and none of ours."""
        process = self.start(*words, **variables)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)

    def trainings(self) -> list[tuple[list[str], dict[str, str]]]:
        """(words after `python`, environment) of every training that was started."""
        notes = sorted(self.record.glob("train-*.args"), key=lambda path: path.stat().st_mtime_ns)
        return [(_words(note)[1:], _variables(note.with_suffix(".env"))) for note in notes]

    def calls(self) -> list[list[str]]:
        """The notes that stand-in commands left with `printf '%s\\0' name "$@"`, oldest first."""
        path = self.record / "calls"
        lines = path.read_text().split("\0\n") if path.exists() else []
        return [line.split("\0") for line in lines if line]


def _words(path: Path) -> list[str]:
    return path.read_text().split("\0")[:-1]


def _variables(path: Path) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in _words(path))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """A function that waits until a condition holds."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "still not so after 60 s"
            time.sleep(0.02)

    return wait
