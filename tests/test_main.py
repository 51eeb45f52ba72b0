"""`python -m dart_jax`: one list of commands, help that loads nothing heavy, one way to end."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dart_jax.__main__ import COMMANDS, command

ROOT = Path(__file__).parents[1]
HEAVY = ("jax", "torch", "transformers", "sklearn", "scipy")


def help_of(*words):
    """What `--help` prints, and which heavy libraries it loaded; the exit status must be 0."""
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['dart_jax', *{list(words)!r}, '--help']\n"
        "try:\n    runpy.run_module('dart_jax', run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text, _, loaded = done.stdout.rpartition("loaded: ")
    return text, loaded.strip()


def test_the_list_has_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        with pytest.raises(SystemExit) as ended:
            command(arguments)
        assert ended.value.code == 0
        listed = capsys.readouterr().out
        assert [line.split()[0] for line in listed.splitlines() if line.startswith("    ")] == list(
            COMMANDS
        )


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["train"], "--sft.learning_rate"),
        (["sweep"], "--seeds"),
        (["generate"], "--models"),
        (["audit"], "calibrate"),
        (["audit", "calibrate"], "--seeds"),
        (["evaluate"], "open-ended"),
        (["evaluate", "external"], "--suite"),
        (["fetch"], "--to"),
        (["export"], "--max-shard-gb"),
        (["compile"], "--topology"),
        (["bench"], "quantize"),
    ],
    ids=" ".join,
)
def test_help_explains_a_command_without_heavy_libraries(words, option):
    text, loaded = help_of(*words)
    assert option in text
    assert loaded == "[]"


def test_an_unknown_command_names_the_nearest(capsys):
    assert command(["evaluat", "compare"]) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: unknown command evaluat; did you mean evaluate?\n")


@pytest.mark.parametrize(
    "arguments",
    [["audit", "calibrate"], ["generate"], ["export", "--format=peft", "--out=x"]],
    ids=lambda words: words[0],
)
def test_a_folder_that_is_no_run_is_a_message(arguments, tmp_path, capsys):
    assert command([*arguments, f"--run={tmp_path}"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path} is no run") and "Traceback" not in printed


def test_a_mistaken_option_ends_with_status_2_as_a_command_of_the_shell():
    words = [sys.executable, "-m", "dart_jax", "generate", "--run", "r", "--temprature", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean --temperature?" in done.stderr


def test_the_console_script_is_the_same_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts == {"dart-jax": "dart_jax.__main__:command"}
