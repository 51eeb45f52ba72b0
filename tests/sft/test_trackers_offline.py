"""The real libraries, without a network: what a run of two starts leaves in a folder."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

# In a process of its own: the libraries read their folders from the environment when imported,
# and leave threads and services behind.
PROGRAM = """
import sys
from pathlib import Path
from tests.sft.test_trackers import start

for done, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
    start(Path(sys.argv[1]), done, steps, trackers=(sys.argv[2],))
"""
KEY = "0123456789" * 4


def track(folder: Path, tracker: str) -> str:
    """Log two starts with a library; returns what it printed."""
    if find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed (the extra of that name)")
    environment = {key: value for key, value in os.environ.items() if "WANDB" not in key}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "TRACKIO_DIR": str(folder / "trackio"),
        "SOME_SERVICE_KEY": KEY,
        "HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder / "distill", tracker],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_wandb_offline_keeps_both_starts_under_one_id(tmp_path):
    said = track(tmp_path, "wandb")
    [identity] = (tmp_path / "distill/tracker_id.txt").read_text().split()
    files = sorted((tmp_path / "distill/wandb").glob(f"offline-run-*-{identity}/*.wandb"))
    assert len(files) == 2, said
    first, second = (file.read_bytes() for file in files)
    for name in (b"loss_by_severity/minor", b"grad_norm", b"validation/loss", b"lora.rank"):
        assert name in first
    assert b"grad_norm" in second and b"validation/loss" not in second
    everything = b"".join(p.read_bytes() for p in (tmp_path / "distill").rglob("*") if p.is_file())
    for private in (KEY.encode(), sys.executable.encode()):
        assert private not in everything


def test_trackio_continues_its_run_in_a_folder_of_this_machine(tmp_path):
    said = track(tmp_path, "trackio")
    assert str(tmp_path / "trackio") in said
    [database] = (tmp_path / "trackio").glob("*.db")
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics").fetchall()
    assert len({name for name, _, _ in rows}) == 1
    logged = [(step, json.loads(metrics)) for _, step, metrics in rows]
    assert sorted(step for step, _ in logged) == [1, 2, 2, 3, 4]
    assert any(values == {"validation/loss": 0.5} for _, values in logged)
    assert all(values.get("grad_norm", 2.0) == 2.0 for _, values in logged)
