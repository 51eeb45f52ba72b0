"""A small made-up run."""

import pytest

from dart_jax.evaluate.summary import SEVERITIES, build_summary


def metrics(accuracy: float) -> dict:
    rates = {
        "n": 4,
        "accuracy": accuracy,
        "equal_accuracy": 0.25,
        "diff_accuracy": None,
        "yes_rate": 0.886,
        "unparseable_rate": 0.0,
    }
    intervals = {
        "accuracy": [accuracy - 0.1, accuracy + 0.1],
        "equal_accuracy": [0.0, 0.5],
        "diff_accuracy": None,
    }
    return {**rates, "intervals": intervals, "by_benchmark": {"D1": rates, "N2": rates}}


def drift(*counts: int) -> dict:
    return {
        "pairs": 40,
        "screened": 20,
        "judged": 20,
        "confirmed": sum(counts),
        "uncertain": 2,
        "failed": 3,
        "by_severity": dict(zip(SEVERITIES, counts, strict=True)),
        "by_type": {"elaborates": sum(counts), "normalizes": 0, "omits": 0},
    }


@pytest.fixture
def parts() -> dict:
    """Arguments of `build_summary`."""
    return {
        "models": {"M0": metrics(0.39), "M_int": metrics(0.682), "M_DART": metrics(0.688)},
        "drift": {"M_int": drift(4, 3, 2, 1), "M_DART": drift(2, 0, 0, 0)},
        "pool": drift(1, 1, 0, 0),
        "repair": {
            "minor": {"examples": 1, "weight_mass": 1.0},
            "moderate": {"examples": 1, "weight_mass": 2.0},
        },
        "shortcut": 0.907,
        "split_by": "row",
        "judge": "local",
        "rejects": {"distill": {"wrong | conclusion": {"D1": 1, "N2": 1}}, "repair": {}},
        "labels": None,
        "cycles": [],
        "seconds": {"teach": 1.25, "distill": 30.0},
    }


@pytest.fixture
def summary(parts) -> dict:
    return build_summary(**parts)
