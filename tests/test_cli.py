"""What a command leaves on the terminal, and its exit status."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dart_jax.append_only import append_jsonl
from dart_jax.cli import exit_status
from dart_jax.records import write_text
from dart_jax.settings import BadSetting
from dart_jax.sft.config import LossConfig

ROOT = Path(__file__).parents[1]


def raising(error):
    def main():
        raise error

    return main


def test_a_status_passes_through(capsys):
    assert exit_status(lambda: 3) == 3
    assert capsys.readouterr().err == ""


def test_what_the_user_can_mend_is_a_message(capsys, monkeypatch):
    monkeypatch.delenv("DART_JAX_TRACEBACK", raising=False)
    assert exit_status(raising(ValueError("data.dir: none"))) == 1
    assert capsys.readouterr().err.startswith("error: data.dir: none\n")


def test_other_errors_and_asked_for_tracebacks_are_raised(monkeypatch):
    monkeypatch.delenv("DART_JAX_TRACEBACK", raising=False)
    with pytest.raises(KeyError):
        exit_status(raising(KeyError("x")))
    monkeypatch.setenv("DART_JAX_TRACEBACK", "1")
    with pytest.raises(ValueError):
        exit_status(raising(ValueError("x")))


def test_ctrl_c_says_what_became_of_the_work(capsys):
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nstopped; the same command goes on from here\n"
    assert exit_status(raising(KeyboardInterrupt()), stopped="") == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (PermissionError(13, "Permission denied", "runs/a"), "runs/a: Permission denied", 1),
        (NotADirectoryError(20, "Not a directory", "file/a"), "file/a: Not a directory", 1),
        (OSError(28, "No space left on device"), "No space left on device", 1),
        (sqlite3.OperationalError("database is locked"), "database is locked", 1),
        (FloatingPointError(), "FloatingPointError", 1),
        (BadSetting("sft.epochs: 0"), "sft.epochs: 0", 2),
    ],
)
def test_the_systems_errors_are_messages(error, message, status, capsys, monkeypatch):
    monkeypatch.delenv("DART_JAX_TRACEBACK", raising=False)
    assert exit_status(raising(error)) == status
    assert capsys.readouterr().err.startswith(f"error: {message}\n")


def test_a_full_disk_is_named_with_its_file(tmp_path):
    """/dev/full is a disk without room; the file that was there stays what it was."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "kept.json").write_text("before")
    (tmp_path / "kept.json.tmp").symlink_to(full)
    with pytest.raises(OSError, match=r"No space left on device: '.*kept\.json'"):
        write_text(tmp_path / "kept.json", "after")
    assert (tmp_path / "kept.json").read_text() == "before"
    (tmp_path / "lines.jsonl").symlink_to(full)
    with pytest.raises(OSError, match=r"No space left on device: '.*lines\.jsonl'"):
        append_jsonl(tmp_path / "lines.jsonl", [LossConfig()])


def test_an_output_that_nobody_reads_ends_quietly():
    program = (
        "import sys\nfrom dart_jax.cli import exit_status\n"
        "sys.exit(exit_status(lambda: [print('x' * 99) for _ in range(9999)] and 0))"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_a_file_as_the_folder_of_runs_is_a_message(place, tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "dart_jax.train", f"--run.root={tmp_path / place}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'file'}"), done.stderr
    assert "Not a directory" in done.stderr and "Traceback" not in done.stderr
