"""What the processes of one job do together and apart; for test_processes.py.

    python job_parts.py FOLDER

Each process writes what it saw into FOLDER/<its number>.json. At the end the first one fails
alone, while the other waits for it.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dart_jax import processes, run_dir
from dart_jax.model.config import MeshConfig
from dart_jax.model.sharding import make_mesh
from dart_jax.processes import barrier, is_primary, on_all, on_primary, process_index, require_same
from dart_jax.records import Score
from dart_jax.run_dir import ResultFile, RunConfig, RunDir

SEEN = {}


def score(number):
    return Score(f"q{number}", "M0", "fake", 0.5, {})


def failure(work):
    """What `work` raises, in words."""
    try:
        work()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def fail_in(number):
    if process_index() == number:
        raise ValueError("no such file")
    return process_index()


def exchange(folder):
    SEEN["index"], SEEN["devices"] = process_index(), len(jax.devices())
    SEEN["first's"] = on_primary(lambda: ["from", process_index()])
    SEEN["large"] = len(on_primary(lambda: "x" * 5_000_000))
    SEEN["nested"] = on_primary(lambda: on_primary(process_index))
    SEEN["first fails"] = failure(lambda: on_primary(lambda: fail_in(0)))
    SEEN["second fails"] = failure(lambda: on_all(lambda: fail_in(1)))
    SEEN["neither fails"] = on_all(lambda: fail_in(2))
    SEEN["alike"] = failure(lambda: require_same({"lora.rank": "16"}))
    facts = {"lora.rank": "16", "lora.alpha": "3" if is_primary() else "4"}
    SEEN["unlike"] = failure(lambda: require_same(facts))
    if is_primary():
        (folder / "written").write_text("before the barrier")
    barrier("written")
    SEEN["read"] = (folder / "written").read_text()


def share(folder):
    run_dir.VISIBLE_SECONDS = 0.1
    SEEN["shared"] = failure(RunDir(RunConfig(root=str(folder))).check_shared)
    own = RunConfig(root=str(folder / f"host{process_index()}"))
    SEEN["not shared"] = failure(RunDir(own).check_shared)


def collect(folder):
    made_by_all = ResultFile(folder / "all.jsonl", Score)
    for number in (2, 1):
        made_by_all.add([score(number)])
    made_by_first = ResultFile(folder / "first.jsonl", Score)
    on_primary(lambda: made_by_first.add([score(3)]))
    found = [file.finish(lambda s: s.question_id) for file in (made_by_all, made_by_first)]
    SEEN["results"] = [[s.question_id for s in part] for part in found]


def gather():
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    host = np.arange(64, dtype=np.float32).reshape(16, 4)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), None))
    doubled = jax.jit(lambda x: 2 * x)(processes.to_devices(host, sharding))
    SEEN["here"] = doubled.is_fully_addressable
    SEEN["whole"] = bool((processes.to_host({"x": doubled})["x"] == 2 * host).all())


if __name__ == "__main__":
    processes._SHUTDOWN_SECONDS = 2
    processes.start()
    base = Path(sys.argv[1])
    exchange(base)
    share(base)
    collect(base)
    gather()
    (base / f"{process_index()}.json").write_text(json.dumps(SEEN))
    if is_primary():
        sys.exit("the disk of the first host is full")
    on_primary(process_index)
