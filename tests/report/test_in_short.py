"""The first sentences of a report: in words, in which direction, and where they stand."""

from dataclasses import replace

import numpy as np
import pytest

from dart_jax.evaluate.summary import Interval
from dart_jax.report.document import Section, Table
from dart_jax.report.in_short import _roughly, in_short
from dart_jax.report.model_card import model_card
from dart_jax.report.run_report import console_text, run_document, write_report
from dart_jax.report.to_text import to_text
from tests.evaluate.conftest import made_up_summary, metrics
from tests.evaluate.test_findings import MANY, summary_of
from tests.report.test_model_card import card_inputs
from tests.report.test_report import extras


@pytest.fixture
def measured():
    """M_int gains everything; M_DART loses four answers of 48, which may be noise."""
    zeros, ones = np.zeros(48, int), np.ones(48, int)
    most = np.arange(48) >= 4
    return summary_of({"M0": zeros, "M_int": ones, "M_DART": most, "shortcut": ones}, MANY)


def words(summary):
    return " ".join(to_text(in_short(summary, 0.95).blocks).split())


def test_differences_have_a_direction(measured):
    text = words(measured)
    clear, unclear = text.split("Cannot be told from noise:")
    assert "M_int's accuracy is 100.0 points [100.0, 100.0] above M0's;" in clear
    assert "M_DART's accuracy is 41.7 points" in clear and "above a coin's." in clear
    assert "M_DART's accuracy is 8.3 points [2.1, 16.7] below M_int's;" in unclear
    assert "below the shortcut baseline's;" in unclear
    assert "M_DART shows 80.0 % [55.0, 93.0] less confirmed drift than M_int." in unclear
    assert "would have to be about 76 for M_DART's accuracy against M_int's;" in unclear
    assert "It is 48." in unclear
    assert "p below 0.05" in unclear


def test_drift_that_grew_is_said(summary):
    grew = replace(summary.drift, reduction=-0.5, reduction_interval=Interval(-1.2, 0.1))
    text = words(replace(summary, drift=grew))
    assert "M_DART shows 50.0 % [-10.0, 120.0] more confirmed drift than M_int." in text
    assert "Stands out of the noise: nothing that was tested." in text


def test_no_difference_has_no_direction(measured):
    same = replace(made_up_summary().drift, reduction=0.0, reduction_interval=Interval(0.0, 0.3))
    text = words(replace(measured, drift=same))
    assert "M_DART shows as much confirmed drift as M_int, 0.0 % [0.0, 30.0] less." in text
    equal = dict.fromkeys(("M0", "M_int", "M_DART", "shortcut"), np.arange(48) % 2)
    assert "M_DART's accuracy is M_int's, 0.0 points [0.0, 0.0] above it;" in words(
        summary_of(equal, MANY)
    )


def test_a_silent_base_model_differs_by_form(measured):
    silent = replace(metrics(0.0), unparseable_rate=1.0)
    text = words(replace(measured, models={**measured.models, "M0": silent}))
    assert "above M0's, which wrote no conclusion line at all;" in text


def test_nothing_tested_is_said():
    nothing = replace(made_up_summary().drift, reduction=None)
    assert words(made_up_summary(drift=nothing)).startswith("No difference between the models")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(9, "about 9"), (41, "about 41"), (1834, "about 1,900"), (2_000_000, "more than a million")],
)
def test_numbers_of_questions_are_rough(count, shown):
    assert _roughly(count) == shown


def test_everything_begins_with_it(measured, tmp_path):
    report = write_report(tmp_path, measured, extras()).read_text("utf-8")
    page = (tmp_path / "report/index.html").read_text("utf-8")
    assert report.index("## In short") < report.index("**Stands out") < report.index("## What was")
    assert page.index("<h2>In short</h2>") < page.index("<h2>What was run</h2>")
    assert console_text(measured, extras()).startswith("Stands out of the noise:")
    card = model_card(card_inputs(summary=measured))
    assert card.index("## In short") < card.index("## What it is")


def test_p_values_of_benchmarks_are_folded_away(measured, tmp_path):
    document = run_document(tmp_path, measured, extras())

    def in_view(blocks):
        for block in blocks:
            if isinstance(block, Table):
                yield block
            elif isinstance(block, Section):
                yield from in_view(block.blocks)

    with_p = [t for t in in_view(document.sections) if any(c.kind == "p" for c in t.columns)]
    assert {table.name for table in with_p} >= {"accuracy_tests_overall", "score_tests_overall"}
    for table in with_p:
        assert {row.get("by", "all") for row in table.rows} == {"all"}, table.name
