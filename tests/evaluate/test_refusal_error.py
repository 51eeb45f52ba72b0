"""The measured error of the rules for refusals: by hand, and as committed."""

from pathlib import Path

import pytest

from dart_jax.audit.refusals import Refusal, rules_digest
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.refusal_error import MEASURED, measured_error, refusal_error, was_in_view
from dart_jax.report.cells import shown_rows
from dart_jax.report.refusals import confusion_table, error_table, error_words

CONFIG = EvaluateConfig(bootstrap_samples=400)
FULL, PARTIAL, NONE = Refusal
RESULTS = Path(__file__).parents[2] / "configs/results/refusals.json"


def test_hand_computed_measures():
    labels = [FULL, FULL, FULL, PARTIAL, PARTIAL, NONE, NONE, NONE]
    grades = [FULL, FULL, NONE, FULL, PARTIAL, NONE, PARTIAL, NONE]
    found = refusal_error(labels, grades, CONFIG)
    assert found["n"] == 8
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((2 / 3,) * 3)
    assert found["confusion"]["full"] == {"full": 2, "partial": 0, "none": 1}
    assert found["confusion"]["none"] == {"full": 0, "partial": 1, "none": 2}
    for name in ("precision", "recall", "f1"):
        low, high = found["intervals"][name]
        assert 0 <= low <= 2 / 3 <= high <= 1
    table = confusion_table({"name": "f", "all": found})
    assert [column.title for column in table.columns][1:] == ["full", "partial", "none"]
    assert shown_rows(table)[0] == ["full", "2", "0", "1"]


def test_what_is_not_defined_is_none():
    found = refusal_error([NONE, NONE], [NONE, PARTIAL], CONFIG)
    assert (found["precision"], found["recall"], found["f1"]) == (None, None, None)
    assert found["intervals"] == {"precision": None, "recall": None, "f1": None}
    assert refusal_error([], [], CONFIG)["n"] == 0


def test_right_everywhere_is_certain():
    found = refusal_error([FULL, NONE, PARTIAL] * 5, [FULL, NONE, PARTIAL] * 5, CONFIG)
    assert found["f1"] == 1.0 and found["intervals"]["f1"] == [1.0, 1.0]


def test_the_package_shows_the_committed_measurement():
    assert MEASURED.read_bytes() == RESULTS.read_bytes()


def test_the_committed_measurement_is_of_these_rules():
    """Whoever changes a rule measures again: configs/results/refusals.json has the command."""
    measured = measured_error()
    assert measured["rules"] == rules_digest()
    assert measured["commit"] and not measured["commit"].endswith("+")
    assert measured["machine"]["processor"] and "--halves" in measured["command"]


def test_halves_make_up_the_whole():
    for file in measured_error()["files"]:
        whole, *halves = (file[part] for part in ("all", "in view", "not in view"))
        assert whole["n"] == sum(half["n"] for half in halves)
        assert whole["confusion"]["full"]["full"] == sum(
            half["confusion"]["full"]["full"] for half in halves
        )
    assert {was_in_view(f"v2-{number}") for number in range(20)} == {True, False}


def test_the_words_beside_a_rate_are_of_the_half_that_was_not_in_view():
    measured = measured_error()
    words = error_words(measured)
    for file in measured["files"]:
        part = file["not in view"]
        assert f"precision {100 * part['precision']:.1f}" in words
        assert f"(n {part['n']})" in words
    table = error_table(measured)
    assert [column.title for column in table.columns][:3] == ["file", "prompts", "n"]
    assert len(table.rows) == 3 * len(measured["files"])
