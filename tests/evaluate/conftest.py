"""A small made-up run."""

import numpy as np
import pytest

from dart_jax.audit.agreement import measure
from dart_jax.audit.annotation_sample import KeyedItem
from dart_jax.audit.annotations import Annotation
from dart_jax.audit.noise_floor import noise_floor
from dart_jax.evaluate.summary import SEVERITIES, build_summary
from dart_jax.records import DriftType, Severity, Verdict


def metrics(accuracy: float) -> dict:
    rates = {
        "n": 4,
        "no_room": 0,
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
        "no_room": 0,
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
    return made_up_parts()


def made_up_parts() -> dict:
    return {
        "models": {"M0": metrics(0.39), "M_int": metrics(0.682), "M_DART": metrics(0.688)},
        "drift": {"M_int": drift(4, 3, 2, 1), "M_DART": drift(2, 0, 0, 0)},
        "pool": drift(1, 1, 0, 0),
        "repair": {
            "minor": {"examples": 1, "weight_mass": 1.0},
            "moderate": {"examples": 1, "weight_mass": 2.0},
        },
        "shortcut": metrics(0.907),
        "protocol": "heldout",
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


@pytest.fixture
def calibration():
    """40 questions, two seeds, two scorers; a's delta exceeds 0.01 in ten of 80, b's never."""
    a = np.zeros((40, 2))
    a[:10, 1] = 0.5
    scores = {"a|b": a, "b": np.full((40, 2), 0.25)}
    found = noise_floor(scores, 0.01)
    values = {name: of_scorer.tolist() for name, of_scorer in scores.items()}
    return {**found, "questions": 40, "seeds": [0, 1], "scores": values}


@pytest.fixture
def annotation_metrics():
    key = [KeyedItem(f"i{i}", f"q{i}", "first", "drift", 0.5, "t") for i in range(4)]
    key.append(KeyedItem("i4", "q4", "first", "not_screened", 0.1, "t"))
    minor = (DriftType.OMITS, Severity.MINOR)
    outcomes = {f"q{i}": Verdict(f"q{i}", "M_int", True, *minor, "", "", "j") for i in range(4)}
    people = [Annotation(f"i{i}", "a|b", "first", *minor) for i in range(3)]
    people += [Annotation("i3", name, "neither", None, None) for name in ("a|b", "eve")]
    return measure(key, outcomes, people, resamples=30)
