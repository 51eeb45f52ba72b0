"""One training, whatever the devices: on one, on eight in several meshes, in two processes.

Dropout is on; float32. The sums over devices are rounded in another order, and that is all: about
2e-7 of a loss, of a gradient norm and of the adapter, where 1e-5 is allowed.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.compiling import quickly_on

PROGRAM = Path(__file__).with_name("loss_curves.py")
ONE = [1, 1, 1]
# Each packing with every axis of the mesh; a mesh that two processes share is not repeated in one.
IN_ONE_PROCESS = [
    *(("none", mesh) for mesh in (ONE, [2, 2, 2])),
    *(("shared_prefix", mesh) for mesh in (ONE, [8, 1, 1])),
]
# Rows, weights and heads are split between the processes in the first, weights in the second.
IN_TWO_PROCESSES = [("none", [8, 1, 1]), ("shared_prefix", [1, 4, 2])]


@pytest.fixture(scope="module")
def curves(run_job, tmp_path_factory):
    """What each training found, by (packing, mesh, processes, process)."""
    folder = tmp_path_factory.mktemp("curves")

    def job(count, plan):
        file = folder / str(count)
        ended = run_job(
            PROGRAM,
            json.dumps(plan),
            file,
            count=count,
            XLA_FLAGS=quickly_on(8 // count),
        )
        assert [code for code, _ in ended] == [0] * count, "\n".join(text for _, text in ended)
        return {
            (packing, tuple(mesh), count, index): found
            for index in range(count)
            for (packing, mesh), found in zip(
                plan, json.loads(file.with_suffix(f".{index}").read_text("utf-8")), strict=True
            )
        }

    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(job, 1, IN_ONE_PROCESS), pool.submit(job, 2, IN_TWO_PROCESSES)]
        return jobs[0].result() | jobs[1].result()


RUNS = [
    *((packing, mesh, 1, 0) for packing, mesh in IN_ONE_PROCESS if mesh != ONE),
    *((packing, mesh, 2, index) for packing, mesh in IN_TWO_PROCESSES for index in (0, 1)),
]


@pytest.mark.parametrize(("packing", "mesh", "count", "index"), RUNS)
def test_loss_curves_are_those_of_one_device(curves, packing, mesh, count, index):
    expected, found = curves[packing, tuple(ONE), 1, 0], curves[packing, tuple(mesh), count, index]
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(found["norms"], expected["norms"], rtol=1e-5)
    error = np.linalg.norm(np.subtract(found["adapter"], expected["adapter"]))
    assert error < 1e-5 * np.linalg.norm(expected["adapter"])


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
def test_the_curves_have_something_to_compare(curves, packing):
    losses = curves[packing, tuple(ONE), 1, 0]["losses"]
    assert np.ptp(losses) > 0.1


def test_the_two_packings_see_other_noise(curves):
    """The same examples in the same weights: only the dropout of a shared prefix differs."""
    a, b = (curves[packing, tuple(ONE), 1, 0]["losses"] for packing in ("none", "shared_prefix"))
    assert np.abs(np.subtract(a, b)).max() > 1e-4


@pytest.mark.parametrize(("packing", "mesh", "count", "index"), RUNS)
def test_every_process_has_the_same_examples_in_the_same_rows(curves, packing, mesh, count, index):
    rows = curves[packing, tuple(mesh), count, index]["rows"]
    assert rows == curves[packing, tuple(ONE), 1, 0]["rows"]
    seen = [i for step in rows for micro_batch in step for row in micro_batch for i in row]
    assert sorted(seen) == sorted([*range(64)] * 2)
