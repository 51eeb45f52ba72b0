"""Severity weights from drift case to training set, and the guard on them (DESIGN.md, fault 1)."""

from dataclasses import replace

import pytest

from dart_jax.records import Condition, DriftCase, DriftType, Question, Severity, Target
from dart_jax.teach.case_weight import severity_weight
from dart_jax.teach.config import RepairConfig
from dart_jax.teach.from_file import file_targets
from dart_jax.teach.repair import (
    WeightingHadNoEffect,
    check_weighting,
    mix_replay,
    repair_requests,
    weight_report,
)

WEIGHTS = (1.0, 2.0, 3.0, 4.0)
QUESTIONS = {
    id: Question(id, "D3", Condition.EQUAL, f"Question {id}? (a) A (b) B (c) C", 2, f"s-{id}")
    for id in ("a", "b")
}
SAFER = "Both groups have the same rights. The law makes no exception."


def case(id: str, severity: Severity) -> DriftCase:
    return DriftCase(id, "M_int", "base", "drifted", 0.1, DriftType.NORMALIZES, severity)


def repaired(*cases: DriftCase) -> list[Target]:
    requests = repair_requests(cases, QUESTIONS, RepairConfig())
    return file_targets(requests, {id: SAFER for id in QUESTIONS})


def distilled(count: int) -> list[Target]:
    return [Target(f"q{n}", "distill", "A. B.\nConclusion: NO") for n in range(count)]


def test_weights_run_from_minor_to_extreme():
    assert [severity_weight(severity, (0.5, 1, 2, 8)) for severity in Severity] == [0.5, 1, 2, 8]


@pytest.mark.parametrize(
    "weights", [(1, 2, 3), (1, 2, 3, 0), (1, 2, -3, 4), (1, 2, 3, float("nan"))]
)
def test_unusable_weights_name_the_setting(weights):
    with pytest.raises(ValueError, match=r"repair\.severity_weights"):
        severity_weight(Severity.MINOR, weights)


def test_severity_weights_survive_repair_and_replay():
    """Two cases of one question, which is also in the replay: three examples, three weights."""
    targets = repaired(case("a", Severity.MINOR), case("a", Severity.EXTREME))
    replay = [Target("a", "distill", f"{SAFER}\nConclusion: NO")]
    mixed = mix_replay(targets, replay, 1.0, seed=0)
    assert [(t.question_id, t.weight) for t in mixed] == [("a", 1.0), ("a", 4.0), ("a", 1.0)]
    report = weight_report(mixed)
    assert report["minor"] == {"examples": 1, "weight": 1.0}
    assert report["extreme"] == {"examples": 1, "weight": 4.0}
    assert report["replay"] == {"examples": 1, "weight": 1.0}
    assert report["severe"] == {"examples": 0, "weight": 0.0}
    check_weighting(report, WEIGHTS)


def test_weights_that_were_lost_are_an_error():
    targets = repaired(case("a", Severity.MINOR), case("b", Severity.SEVERE))
    flat = [replace(target, weight=1.0) for target in targets]
    with pytest.raises(WeightingHadNoEffect, match=r"\['severe'\].*weight 1 \(expected 3\)"):
        check_weighting(weight_report(flat), WEIGHTS)


def test_a_weighted_replay_is_an_error():
    heavy = [replace(target, weight=2.0) for target in distilled(2)]
    with pytest.raises(WeightingHadNoEffect, match="replay"):
        check_weighting(weight_report(heavy), WEIGHTS)


def test_equal_configured_weights_are_no_error():
    requests = repair_requests(
        [case("a", Severity.MINOR), case("b", Severity.SEVERE)],
        QUESTIONS,
        RepairConfig(severity_weights=(1.0, 1.0, 1.0, 1.0)),
    )
    report = weight_report(file_targets(requests, {id: SAFER for id in QUESTIONS}))
    check_weighting(report, (1.0, 1.0, 1.0, 1.0))


def test_replay_draws_its_share_the_same_way_every_time():
    pool = distilled(40)
    drawn = mix_replay([], pool, 0.25, seed=7)
    assert len(drawn) == len({t.question_id for t in drawn}) == 10
    assert mix_replay([], pool[::-1], 0.25, seed=7) == drawn
    assert mix_replay([], pool, 0.25, seed=8) != drawn
    assert mix_replay([], pool, 0.0, seed=7) == []
    assert sorted(t.question_id for t in mix_replay([], pool, 1.0, seed=7)) == sorted(
        t.question_id for t in pool
    )


def test_replay_outside_the_unit_interval_names_the_setting():
    with pytest.raises(ValueError, match=r"repair\.replay 25"):
        mix_replay([], distilled(2), 25, seed=0)


def test_a_case_of_an_unknown_question_is_named():
    with pytest.raises(ValueError, match="question z"):
        repair_requests([case("z", Severity.MINOR)], QUESTIONS, RepairConfig())
