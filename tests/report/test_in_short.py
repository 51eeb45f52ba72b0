"""The first sentences of a report: in words, in which direction, and where they stand."""

from dataclasses import replace

import numpy as np
import pytest

from dart_jax.evaluate.summary import Interval
from dart_jax.report.document import Section, Table, tables_of
from dart_jax.report.drift import drift
from dart_jax.report.in_short import _roughly, in_short
from dart_jax.report.model_card import model_card
from dart_jax.report.results import benchmarks, results
from dart_jax.report.run_report import console_text, run_document, write_report
from dart_jax.report.to_text import to_text
from dart_jax.summaries import Estimate
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
    assert "- M_int's accuracy is 100.0 points [85.2, 100.0] above M0's." in clear
    assert "M_DART's accuracy is 41.7 points" in clear and "above a coin's." in clear
    assert "M_DART's accuracy is 8.3 points [2.1, 16.7] below M_int's." in unclear
    assert "below the shortcut baseline's." in unclear
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
    assert "M_DART's accuracy is M_int's, 0.0 points [-7.4, 7.4] above it." in words(
        summary_of(equal, MANY)
    )


@pytest.mark.parametrize("unparseable", [1.0, 0.75])
def test_a_model_without_conclusion_lines_differs_by_form(measured, unparseable):
    silent = replace(metrics(0.0), unparseable_rate=unparseable)
    text = words(replace(measured, models={**measured.models, "M0": silent}))
    before, form = text.split("About form, not about knowledge:")
    assert "above M0's" not in before and "M_DART's accuracy" in before
    assert "- M_int's accuracy is 100.0 points [85.2, 100.0] above M0's." in form
    assert f"M0 wrote no conclusion line in {4 * unparseable:g} of its 4 answers" in form
    assert "its forced decisions do." in form
    assert "About form" not in words(measured)


def test_a_model_that_was_not_repaired_is_not_compared_with_itself(measured):
    text = words(replace(measured, m_dart_is_m_int=True, distill_only=True))
    assert "M_DART is M_int: distill only" in text
    assert "above M_int's" not in text and "below M_int's" not in text
    assert "confirmed drift than" not in text and "above a coin's" in text


def test_nothing_tested_is_said():
    nothing = replace(made_up_summary().drift, reduction=None)
    assert words(made_up_summary(drift=nothing)).endswith("the models could be tested.")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(9, "about 9"), (41, "about 41"), (1834, "about 1,900"), (2_000_000, "more than a million")],
)
def test_numbers_of_questions_are_rough(count, shown):
    assert _roughly(count) == shown


def test_everything_begins_with_it(measured, tmp_path):
    report = write_report(tmp_path, measured, extras()).read_text("utf-8")
    page = (tmp_path / "report/index.html").read_text("utf-8")
    order = (
        "In short",
        "Drift before and after the repair",
        "Results",
        "Statistics",
        "What was run",
    )
    for text, heading in ((report, "## {}"), (page, "<h2>{}</h2>")):
        places = [text.index(heading.format(title)) for title in order]
        assert places == sorted(places)
    assert report.index("M0 is the base model") < report.index("**Stands out")
    console = console_text(measured, extras())
    assert console.startswith("M0 is the base model")
    assert console.index("Stands out") < console.index("An answer drifts") < console.index("EQUAL")
    card = model_card(card_inputs(summary=measured))
    assert card.index("## In short") < card.index("## What it is")


def test_terms_are_explained_before_the_tables_that_use_them(measured):
    """In each section of the report, the first words of a section say what its columns mean."""
    explained = {
        "results": ("EQUAL questions", "DIFF questions", "YES rate", "unparseable"),
        "benchmarks": ("D1 to D4", "N1 to N4"),
        "drift": ("elaborates", "normalizes", "omits", "screened", "drift pool"),
    }
    sections = {
        section.anchor: to_text([section])
        for section in (
            results(measured, 0.95),
            benchmarks(measured),
            drift(measured, {}, (0.02, 0.1, 0.2, 0.35), None, {}),
        )
    }
    for anchor, terms in explained.items():
        lead = sections[anchor].split("protocol heldout")[0]
        for term in terms:
            assert term in " ".join(lead.split()), term


def test_statistics_are_folded_away(measured, tmp_path):
    document = run_document(tmp_path, measured, extras())

    def in_view(blocks):
        for block in blocks:
            if isinstance(block, Table):
                yield block
            elif isinstance(block, Section):
                yield from in_view(block.blocks)

    with_p = [t for t in in_view(document.sections) if any(c.kind == "p" for c in t.columns)]
    assert {table.name for table in with_p} == {"drift_tests"}
    folded = {table.name for table in tables_of(document.sections)}
    assert {"accuracy_by_group", "accuracy_tests", "score_tests", "score_groups"} <= folded


def test_what_else_changed_is_said_only_where_it_can_be_told_from_noise(measured):
    found = measured.collateral
    text = words(measured)
    assert "M_DART repeats 90.0 % word for word, of those with it 10.0 %" in text
    assert "a difference of 80.0 [60.0, 95.0] points." in text
    assert "answers are longer: +3.0 [+1.0, +5.0] tokens to a mean of 80.5." in text
    quiet = replace(
        found, same_p=0.2, not_drifted=replace(found.not_drifted, longer=Estimate(0.5, -1.0, 2.0))
    )
    for none in (quiet, None):
        text = words(replace(measured, collateral=none))
        assert "word for word" not in text and "longer" not in text
