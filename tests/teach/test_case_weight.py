"""A weight of one's own, from the drift case to the training set; what is no weight is refused."""

import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dart_jax import teach
from dart_jax.records import (
    Condition,
    DriftCase,
    DriftType,
    Question,
    Severity,
    Target,
    from_json,
    to_json,
)
from dart_jax.settings import BadSetting
from dart_jax.teach.case_weight import case_weight, weight_fn_inputs
from dart_jax.teach.config import RepairConfig
from dart_jax.teach.repair import (
    WeightingHadNoEffect,
    check_weighting,
    configured_weights,
    mix_replay,
    repair_requests,
    weight_report,
)
from dart_jax.teach.weighting import (
    capped,
    check_copies,
    mass_factor,
    oversampled,
    scaled,
    weight_level,
)

OWN = """
import itertools
import math

import numpy as np

counter = itertools.count(1)

def log_severity(case):
    return math.log(1 + case.severity)

def by_delta(case):
    return np.float32(max(10 * case.delta, 0.25))

def fails(case):
    return {"N1": 1.0}[case.benchmark]

def negative(case):
    return -1.0

def nothing(case):
    pass

def text(case):
    return "2"

def yes(case):
    return True

def infinite(case):
    return math.inf

def tiny(case):
    return 1e-7

def restless(case):
    return next(counter)
"""

CASES = [
    DriftCase(
        f"q{number}",
        "M_int",
        "base",
        "drifted",
        0.04 * number,
        DriftType.ELABORATES,
        Severity(number % 4 + 1),
        benchmark="D3",
    )
    for number in range(20)
]
QUESTIONS = {
    case.question_id: Question(case.question_id, "D3", Condition.DIFF, "Which?", 0, "s")
    for case in CASES
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function: settings with a function of the user's module; the module is in this folder."""
    (tmp_path / "own_weights.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_weights", raising=False)
    yield lambda name, **others: RepairConfig(weight_fn=f"own_weights.{name}", **others)
    sys.modules.pop("own_weights", None)


def test_it_takes_the_place_of_the_severitys_number(own):
    weigh = case_weight(own("log_severity"))
    assert [weigh(case) for case in CASES[:4]] == [math.log(number) for number in range(2, 6)]
    requests = repair_requests(CASES, QUESTIONS, own("by_delta"))
    expected = [max(10 * case.delta, 0.25) for case in CASES]
    assert [request.weight for request in requests] == pytest.approx(expected)
    # What the tables count by stays.
    assert [request.severity for request in requests] == [case.severity for case in CASES]
    assert case_weight(RepairConfig())(CASES[2]) == 3.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fails",
            r"fails on the minor drift case of question q0 \(.*weights\.py, line 16\): Key",
        ),
        ("negative", r"own_weights\.py\) returned -1\.0 for the minor .* a number from 1e-06 to"),
        ("nothing", r"returned None for"),
        ("text", r"returned '2' for"),
        ("yes", r"returned True for"),
        ("infinite", r"returned inf for"),
        ("tiny", r"returned 1e-07 for"),
        ("restless", r"returned 1 and then 2 for .* depend on the case alone"),
        ("absent", r"module own_weights has no function absent"),
        ("counter", r"module own_weights has no function counter"),
    ],
)
def test_what_is_no_weight_is_an_error(name, message, own):
    with pytest.raises(ValueError, match=rf"^repair\.weight_fn: own_weights\.{name}.*{message}"):
        case_weight(own(name))(CASES[0])


def test_a_name_without_a_module_is_refused():
    with pytest.raises(ValueError, match=r"repair\.weight_fn: 'mine' is no function of your own"):
        case_weight(RepairConfig(weight_fn="mine"))


def test_severity_weights_beside_it_are_refused():
    with pytest.raises(BadSetting, match=r"weight_fn: a\.b; .*severity_weights, which is uniform"):
        RepairConfig(weight_fn="a.b", severity_weights="uniform")


def test_the_text_of_its_file_is_part_of_the_identity(own, tmp_path):
    assert "weight_fn" not in RepairConfig().identity() and weight_fn_inputs(RepairConfig()) == {}
    config = own("by_delta")
    assert config.identity()["weight_fn"] == "own_weights.by_delta"
    before = weight_fn_inputs(config)
    (tmp_path / "own_weights.py").write_text(OWN + "# changed\n")
    assert weight_fn_inputs(config) != before


@pytest.mark.parametrize("mass", [None, 3.0])
@pytest.mark.parametrize("share", [None, 0.1])
@pytest.mark.parametrize("sampled", [True, False])
def test_the_guard_knows_the_weights_of_the_cases(own, mass, share, sampled):
    """At a mass, below a greatest share, and as copies; a lost weight is found in each."""
    if mass and share:
        return  # refused together
    config = own("by_delta", mass=mass, max_weight_share=share)
    repairs = []
    for request in repair_requests(CASES, QUESTIONS, config)[3:]:
        id = request.question.id
        repairs.append(Target(id, "repair", "x", request.weight, request.severity))
    distill = [Target(f"d{number}", "distill", "y") for number in range(8)]

    targets = mix_replay(repairs, distill, 1.0, seed=0)
    targets = scaled(targets, mass_factor(targets, mass))
    level = weight_level([target.weight for target in targets], share)
    targets = capped(targets, level)
    expected = configured_weights(repairs, CASES, config)

    def check(targets):
        training = oversampled(targets, 0) if sampled else targets
        if sampled:
            check_copies(targets, training)
        check_weighting(weight_report(targets, training), expected, level, sampled, mass)

    check(targets)
    with pytest.raises(WeightingHadNoEffect, match="did not arrive"):
        check([replace(target, weight=1.0) for target in targets])


def test_the_readme_example_weighs(own, tmp_path, monkeypatch):
    readme = (Path(teach.__file__).parent / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(# my_pkg\.py.*?)```", readme, re.DOTALL)
    (tmp_path / "my_pkg.py").write_text(code)
    monkeypatch.delitem(sys.modules, "my_pkg", raising=False)
    log_severity = case_weight(RepairConfig(weight_fn="my_pkg.log_severity"))
    by_delta = case_weight(RepairConfig(weight_fn="my_pkg.by_delta"))
    sys.modules.pop("my_pkg")
    assert [log_severity(case) for case in CASES[:2]] == [math.log(2), math.log(3)]
    unsure = replace(CASES[5], agreement=0.5)
    assert [by_delta(case) for case in (CASES[0], CASES[5], unsure)] == pytest.approx([0.1, 2, 1])


def test_cases_of_earlier_versions_are_read():
    line = to_json(CASES[1])
    assert from_json(line, DriftCase) == CASES[1]
    old = line.partition(', "benchmark"')[0] + "}"
    case = from_json(old, DriftCase)
    assert (case.benchmark, case.baseline_score, case.agreement) == ("", None, None)
