"""The measured error of the rules for refusals: by hand, and as committed."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dart_jax.audit.refusals import Refusal, rules_digest
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.refusal_error import (
    MEASURED,
    FileError,
    measured_error,
    refusal_error,
)
from dart_jax.report.cells import shown_rows
from dart_jax.report.refusals import confusion_table, error_words

CONFIG = EvaluateConfig(bootstrap_samples=400)
FULL, PARTIAL, NONE = Refusal
RESULTS = Path(__file__).parents[2] / "configs/results/refusals.json"


def test_hand_computed_measures():
    labels = [FULL, FULL, FULL, PARTIAL, PARTIAL, NONE, NONE, NONE]
    grades = [FULL, FULL, NONE, FULL, PARTIAL, NONE, PARTIAL, NONE]
    error = refusal_error(labels, grades, CONFIG)
    assert error.n == 8
    assert (error.precision, error.recall, error.f1) == pytest.approx((2 / 3,) * 3)
    assert error.confusion["full"] == {"full": 2, "partial": 0, "none": 1}
    assert error.confusion["none"] == {"full": 0, "partial": 1, "none": 2}
    for name in ("precision", "recall", "f1"):
        low, high = error.intervals[name]
        assert 0 <= low <= 2 / 3 <= high <= 1
    table = confusion_table(FileError("f", "", error))
    assert [column.title for column in table.columns][1:] == ["full", "partial", "none"]
    assert shown_rows(table)[0] == ["full", "2", "0", "1"]


def test_what_is_not_defined_is_none():
    error = refusal_error([NONE, NONE], [NONE, PARTIAL], CONFIG)
    assert (error.precision, error.recall, error.f1) == (None, None, None)
    assert error.intervals == {"precision": None, "recall": None, "f1": None}
    assert refusal_error([], [], CONFIG).n == 0


def test_right_everywhere_is_certain():
    error = refusal_error([FULL, NONE, PARTIAL] * 5, [FULL, NONE, PARTIAL] * 5, CONFIG)
    assert error.f1 == 1.0 and error.intervals["f1"] == (1.0, 1.0)


def test_the_package_shows_the_committed_measurement():
    assert MEASURED.read_bytes() == RESULTS.read_bytes()


def test_the_committed_measurement_is_of_these_rules():
    """Whoever changes a rule measures again: configs/results/refusals.json has the command."""
    measured = measured_error()
    assert measured.rules == rules_digest()
    assert measured.commit and not measured.commit.endswith("+")
    assert measured.machine["processor"] and "--labelled" in measured.command


def test_the_file_keeps_its_keys():
    """Written again, the committed measurement is the file that it was read from."""
    values = asdict(measured_error())
    assert json.dumps(values, indent=1) + "\n" == RESULTS.read_text("utf-8")


def test_precision_and_recall_of_full_refusals_reach_ninety_percent_on_both_files():
    files = measured_error().files
    assert [file.error.n for file in files] == [450, 450]
    assert all(min(file.error.precision, file.error.recall) >= 0.9 for file in files)


def test_the_words_beside_a_rate_say_what_was_in_view():
    measured = measured_error()
    words = error_words(measured)
    assert "All of these answers were in view" in words
    for file in measured.files:
        assert f"precision {100 * file.error.precision:.1f}" in words
        assert f"(n {file.error.n})" in words
