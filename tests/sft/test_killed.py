"""SIGKILL at random moments of a training, SIGTERM at others: the numbers of one left in peace."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.compiling import quickly_on

PROGRAM = Path(__file__).with_name("killed_training.py")
STEPS = 12
KILL, TERM = int(signal.SIGKILL), int(signal.SIGTERM)


def random_kills() -> list[list]:
    """Before a log line is written, and before a checkpoint gets its name; others each time."""
    return [
        [KILL, "open", "log.jsonl", random.randint(2, 4)],
        [KILL, "os.rename", "checkpoint", random.randint(1, 2)],
        [TERM, "open", "log.jsonl", random.randint(2, 3)],
    ]


@pytest.fixture(scope="module")
def pair(run_job, tmp_path_factory):
    """Folder of a run in two processes, and how they ended: (exit code, output) of each."""
    root = tmp_path_factory.mktemp("killed")
    return root / "pair", run_job(PROGRAM, root / "pair", XLA_FLAGS=quickly_on(1))


@pytest.fixture(scope="module")
def folder(pair):
    """Holds the runs `whole`, `killed` and `pair`, all at their end, and what each printed."""
    root = pair[0].parent
    kills = random_kills()
    plan = [["whole", None], *(["killed", kill] for kill in kills), ["killed", None]]
    plan.append(["pair", None])
    environment = {
        **os.environ,
        "XLA_FLAGS": quickly_on(1),
        "PYTHONPATH": str(PROGRAM.parents[2]),
    }
    done = subprocess.run(
        [sys.executable, PROGRAM, root, json.dumps(plan)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    codes = json.loads(done.stdout)
    expected = [0, *(-KILL if kill[0] == KILL else 128 + TERM for kill in kills), 0, 0]
    printed = "\n".join((root / f"{k}.txt").read_text("utf-8")[-1500:] for k in range(len(plan)))
    assert codes == expected, f"{kills}\n{printed}"
    return root


def lines(path, file="log.jsonl"):
    """The log without its speed."""
    rows = [json.loads(line) for line in (path / file).read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "speed"} for row in rows]


def test_losses_and_adapter_are_bitwise_those_of_a_run_left_in_peace(folder):
    assert lines(folder / "killed") == lines(folder / "whole")
    assert [line["step"] for line in lines(folder / "whole")] == list(range(1, STEPS + 1))
    measured = lines(folder / "whole", "validation.jsonl")
    assert [line["step"] for line in measured] == [0, 3, 6, 9, 12]
    assert lines(folder / "killed", "validation.jsonl") == measured
    with (
        np.load(folder / "whole" / "adapter.npz") as whole,
        np.load(folder / "killed" / "adapter.npz") as killed,
    ):
        assert set(whole) == set(killed)
        for name in whole:
            np.testing.assert_array_equal(killed[name], whole[name], err_msg=name)


def test_one_of_two_processes_gets_the_sigterm_and_both_stop(pair):
    codes, (first, second) = zip(*pair[1], strict=True)
    assert codes == (128 + TERM, 128 + TERM), first + second
    [said] = re.findall(r"stopped by SIGTERM, saved after step (\d+) of 12", first)
    assert "SIGTERM" not in second
    assert int(said) < STEPS


def test_one_process_goes_on_where_two_have_stopped(folder):
    found, expected = lines(folder / "pair"), lines(folder / "whole")
    for key in ("step", "weight_mass", "supervised_tokens", "effective_examples"):
        assert [line[key] for line in found] == [line[key] for line in expected]
    for key in ("loss", "grad_norm"):
        values = ([line[key] for line in log] for log in (found, expected))
        np.testing.assert_allclose(*values, rtol=1e-5)
    found, expected = (lines(folder / run, "validation.jsonl") for run in ("pair", "whole"))
    for key in ("step", "loss"):
        values = ([line[key] for line in log] for log in (found, expected))
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_sigterm_says_that_it_goes_on(folder):
    [said] = [
        line for line in (folder / "3.txt").read_text("utf-8").splitlines() if "SIGTERM" in line
    ]
    assert "of 12; the same command goes on from here" in said


def test_nothing_is_left_of_the_kills(folder):
    names = sorted(path.name for path in (folder / "killed" / "checkpoint").iterdir())
    assert names == ["10", "12"]
