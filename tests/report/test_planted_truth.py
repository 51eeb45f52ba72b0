"""Planted drift in the report: said first, tabulated with the published audit, and drawn."""

import numpy as np
import pytest

from dart_jax.evaluate.models import SEVERITIES
from dart_jax.report.figures import to_png
from dart_jax.report.planted_figure import dose_response
from dart_jax.report.planted_truth import planted_truth
from dart_jax.report.run_report import console_text
from dart_jax.report.to_markdown import blocks_to_markdown
from dart_jax.report.to_text import to_text
from tests.evaluate.conftest import made_up_summary
from tests.evaluate.test_planted import CONFIG, audited, made_up_planted, planted_summary
from tests.report.test_planting import PLANTING
from tests.report.test_report import extras


@pytest.fixture
def planted():
    return made_up_summary(planting=PLANTING, planted=made_up_planted())


def test_the_section_begins_with_what_was_planted(planted):
    section = planted_truth(planted)
    text = to_text(section.blocks)
    assert text.startswith("These faults were planted on purpose (faults planted in 35 of 320")
    words = " ".join(text.split())
    assert "62.5 % less in M_DART than in M_int (8 answers before the repair, 3 after it)" in words
    assert "McNemar's p 0.125." in words
    assert planted_truth(made_up_summary()) is None


def test_its_tables(planted):
    text = blocks_to_markdown(planted_truth(planted).blocks)
    assert "| M_int | 12 | 8 | 3 | 0 | 2 | 3 | 8 | 0 | 0 |" in text
    assert "| M_int, drift pool | 12 | 8 |" in text
    severe = next(line for line in text.splitlines() if line.startswith("| severe |"))
    assert severe.endswith("| 0.500 | 2 | 0 | 0 |"), "p, repaired, persisting, new"
    assert "| published, by people | 0.720 | 0.810 |  |" in text
    assert "| M_int, test | extreme | 3 | 2 | 66.7 |" in text
    assert "| M_int, test | moderate | 0 | 0 | n/a |" in text


def test_console_and_first_sentences_have_it(planted):
    text = " ".join(console_text(planted, extras()).split())
    assert "M_DART shows 62.5 %" in text and "less planted drift than M_int" in text
    assert "Answers with planted drift by severity and type" in text
    assert "planted" not in console_text(made_up_summary(), extras())


def test_the_dose_response_is_drawn(planted):
    shares, left = dose_response(planted.planted).axes
    drawn = [bars.lines[0].get_ydata()[0] for bars in left.containers]
    assert drawn == pytest.approx([100 * 2 / 3, 0, 100 / 3]), "moderate has none to be left"
    rates = [bars.lines[0].get_ydata()[0] for bars in shares.containers]
    assert rates == pytest.approx([25, 0, 100 / 6, 25, 100 / 6, 0, 0, 100 / 12])
    labels = [tick.get_text() for tick in left.get_xticklabels()]
    assert labels == list(SEVERITIES) and np.all(left.get_xticks() == np.arange(4))
    assert to_png(dose_response(planted.planted)).startswith(b"\x89PNG")


def test_without_planted_drift_the_picture_says_so():
    tested = {name: audited(name, "none " * 12) for name in ("M_int", "M_DART")}
    nothing = planted_summary(tested, audited("M_int", "none " * 12), {}, CONFIG, 0)
    axes = dose_response(nothing).axes[0]
    assert [text.get_text() for text in axes.texts] == ["no planted drift in M_int"]
    summary = made_up_summary(planting=PLANTING, planted=nothing)
    assert "a reduction is not defined" in to_text(planted_truth(summary).blocks)
