"""What the first process does alone, how the others learn of it, and how a job ends."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dart_jax import processes

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def job(run_job, tmp_path_factory):
    """What two processes saw, and how they ended: exit code and output of each."""
    folder = tmp_path_factory.mktemp("parts")
    ended = run_job(Path(__file__).with_name("job_parts.py"), folder)
    written = [folder / f"{index}.json" for index in (0, 1)]
    assert all(path.exists() for path in written), "\n".join(text for _, text in ended)
    return [json.loads(path.read_text("utf-8")) for path in written], ended


@pytest.fixture
def seen(job):
    """What each of the two processes saw."""
    return job[0]


def test_both_have_all_devices(seen):
    assert [(each["index"], each["devices"]) for each in seen] == [(0, 8), (1, 8)]


def test_every_process_gets_what_the_first_found(seen):
    for each in seen:
        assert each["first's"] == ["from", 0]
        assert each["large"] == 5_000_000
        assert each["nested"] == 0
        assert each["read"] == "before the barrier"


def test_a_failure_of_the_first_reaches_all(seen):
    assert seen[0]["first fails"] == "ValueError: no such file"
    assert seen[1]["first fails"] == (
        "OtherProcessFailed: stopped, because the first process failed: ValueError: no such file"
    )


def test_a_failure_of_any_reaches_all(seen):
    assert seen[0]["second fails"] == "OtherProcessFailed: process 1: ValueError: no such file"
    assert seen[1]["second fails"] == "ValueError: no such file"
    assert [each["neither fails"] for each in seen] == [0, 1]


def test_processes_that_were_not_started_alike_are_refused(seen):
    assert [each["alike"] for each in seen] == [None, None]
    for each in seen:
        assert "lora.alpha (4, in the first process 3)" in each["unlike"]
        assert "rank" not in each["unlike"]


def test_a_run_folder_that_is_not_shared_is_refused(seen):
    assert [each["shared"] for each in seen] == [None, None]
    assert all("run.root" in each["not shared"] for each in seen)
    assert "process 1: NotShared" in seen[0]["not shared"]


def test_every_process_has_the_results_of_the_first(seen):
    for each in seen:
        assert each["results"] == [["q1", "q2"], ["q3"]]


def test_results_are_written_once(job, tmp_path_factory):
    for name, lines in (("all", 2), ("first", 1)):
        path = next(tmp_path_factory.getbasetemp().glob(f"parts*/{name}.jsonl"))
        assert len(path.read_text("utf-8").splitlines()) == lines


def test_arrays_over_both_processes_are_read_whole(seen):
    for each in seen:
        assert each["whole"] and not each["here"]


def test_the_first_process_failing_alone_ends_the_others(job):
    _, ((code, text), (other_code, _)) = job
    assert code != 0 and other_code != 0
    assert "the disk of the first host is full" in text


def test_a_process_alone_does_its_own_work():
    assert (processes.process_count(), processes.process_index()) == (1, 0)
    assert processes.is_primary()
    assert processes.on_primary(lambda: 3) == processes.on_all(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        processes.on_primary(lambda: 1 / 0)
    processes.require_same({"lora.rank": "16"})
    processes.barrier("alone")


def test_a_process_alone_prints(capsys):
    with processes.only_primary_prints():
        print("said")
    assert capsys.readouterr().out == "said\n"


def test_host_arrays_go_to_the_devices_and_back():
    mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("a", "b"))
    tree = {"x": np.arange(32.0, dtype=np.float32).reshape(8, 4), "y": np.float32(3)}
    shardings = {
        "x": NamedSharding(mesh, PartitionSpec("a", "b")),
        "y": NamedSharding(mesh, PartitionSpec()),
    }
    placed = processes.to_devices(tree, shardings)
    assert jax.tree.map(lambda leaf: leaf.sharding, placed) == shardings
    assert placed["x"].addressable_shards[0].data.shape == (2, 2)
    back = processes.to_host(placed)
    assert (back["x"] == tree["x"]).all() and back["y"] == 3


def test_a_job_that_is_not_described_says_what_to_set():
    program = "from dart_jax.processes import start; start()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"DART_JAX_DISTRIBUTED": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: cannot join the other processes")
    assert "JAX_COORDINATOR_ADDRESS" in last


@pytest.mark.parametrize("variable", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID"])
def test_a_number_that_is_none_is_named(variable, monkeypatch):
    monkeypatch.setenv("DART_JAX_DISTRIBUTED", "1")
    monkeypatch.setenv(variable, "two")
    with pytest.raises(ValueError, match=f"{variable} is 'two'"):
        processes.start()
