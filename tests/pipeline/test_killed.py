"""SIGKILL in every stage, and a new start each time: the numbers of a run left in peace."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dart_jax.config import STAGES
from dart_jax.run_dir import hash_path
from tests.compiling import QUICKLY

PROGRAM = Path(__file__).with_name("killed_runs.py")
KILLS = {
    "teach": ("teach/rejected.jsonl.tmp", 1),
    "distill": ("distill/log.jsonl", 2),
    "audit": ("audit/generations/M_int.jsonl", 2),
    "audit, judging": ("audit/verdicts.jsonl", 3),
    "repair": ("repair/log.jsonl", 2),
    "evaluate": ("evaluation/margins_M_int.jsonl", 1),
}
"""Each is in the midst of a stage: results are there, and more are to come."""

SAME = [
    "adapters",
    "generations",
    "teach/targets.jsonl",
    "audit/generations",
    "audit/verdicts.jsonl",
    "audit/drift_cases.jsonl",
    "repair/training_set.jsonl",
    "evaluation/margins_M_DART.jsonl",
    "evaluation/scores.jsonl",
]


@pytest.fixture(scope="module")
def folder(settings, tmp_path_factory):
    """Holds the runs `whole` and `killed`, and what each start printed."""
    root = tmp_path_factory.mktemp("killed")
    plan = [("whole", None), *(("killed", kill) for kill in KILLS.values()), ("killed", None)]
    command = [sys.executable, PROGRAM, root, json.dumps(plan)]
    environment = {
        **os.environ,
        "XLA_FLAGS": QUICKLY,  # one device
        "PYTHONPATH": str(PROGRAM.parents[2]),
    }
    done = subprocess.run(
        [*command, *settings(root, decode__slots=4, repair__epochs=2)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    codes = json.loads(done.stdout)
    ended = [path.read_text("utf-8")[-2000:] for path in (root / "0.txt", root / "7.txt")]
    assert codes == [0, *[-signal.SIGKILL] * len(KILLS), 0], "\n".join(ended)
    return root


def test_the_numbers_are_those_of_a_run_left_in_peace(folder, summary_of):
    whole, killed = folder / "whole", folder / "killed"
    expected, found = summary_of(whole), summary_of(killed)
    assert set(expected.pop("seconds")) == set(found.pop("seconds")) == set(STAGES)
    assert found == expected
    assert expected["drift"]["M_int"]["confirmed"] > 0, "the runs must have something to compare"
    assert not expected["m_dart_is_m_int"]
    for name in SAME:
        assert hash_path(killed / name) == hash_path(whole / name), name
    for stage in ("distill", "repair"):
        assert losses(killed / stage / "log.jsonl") == losses(whole / stage / "log.jsonl")


def test_finished_stages_are_not_repeated(folder):
    for start, killed_in in enumerate(KILLS, 2):
        printed = (folder / f"{start}.txt").read_text("utf-8")
        done = list(STAGES[: STAGES.index(killed_in.split(",")[0])])
        assert [stage for stage in STAGES if f"{stage}: up to date" in printed] == done


def losses(path):
    """Steps without their speed."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "speed"} for row in rows]
