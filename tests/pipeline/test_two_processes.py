"""The pipeline in two processes that share a run folder: the run of one process.

Both have eight devices in all, so that the computations are the same but for the order of sums.
At temperature 0.2 the tokens are the arg-max over logits plus noise that only seed, question and
index determine: rounding could flip one only where two candidates tie to about 1e-6.
"""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from dart_jax.config import STAGES


@pytest.fixture(scope="module")
def two(run_job, settings, tmp_path_factory):
    """The folder of a run in two processes, and what each of them printed."""
    root = tmp_path_factory.mktemp("two")
    ended = run_job("-m", "dart_jax.train", *settings(root))
    assert [code for code, _ in ended] == [0, 0], "\n".join(text[-3000:] for _, text in ended)
    return root / "run", [text for _, text in ended]


def test_the_numbers_are_those_of_one_process(two, finished, summary_of):
    found, expected = summary_of(two[0]), summary_of(finished)
    assert set(found.pop("seconds")) == set(expected.pop("seconds")) == set(STAGES)
    errors = calibration_errors(found), calibration_errors(expected)
    assert errors[0] == pytest.approx(errors[1], abs=1e-4)
    assert found == expected
    assert expected["drift"]["M_int"]["confirmed"] > 0, "the runs must have something to compare"


@pytest.mark.parametrize("name", ["M_int", "M_DART"])
def test_the_adapters_are_those_of_one_process(two, finished, name):
    file = f"adapters/{name}/adapter_model.safetensors"
    found, expected = load_file(two[0] / file), load_file(finished / file)
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        assert np.linalg.norm(found[key] - weight) < 1e-4 * np.linalg.norm(weight), key


@pytest.mark.parametrize("stage", ["distill", "repair"])
def test_the_losses_are_those_of_one_process(two, finished, stage):
    found, expected = (losses(folder / f"{stage}/log.jsonl") for folder in (two[0], finished))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_only_the_first_process_prints(two):
    _, (first, second) = two
    assert all(f"[{number}/5] {stage}" in first for number, stage in enumerate(STAGES, 1))
    assert "report: " in first
    assert not any(stage in second for stage in STAGES), second


def calibration_errors(summary):
    """Take the probabilities, which round as the order of sums does, out of a summary."""
    tested = [*summary["models"].values(), *(cycle["test"] for cycle in summary["cycles"])]
    return [metrics.pop("reliability")["ece"] for metrics in tested]


def losses(path):
    """The loss of each step."""
    return [json.loads(line)["loss"] for line in path.read_text("utf-8").splitlines()]
