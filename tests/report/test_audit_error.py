"""The sections on noise and people."""

from dataclasses import replace

from dart_jax.report.audit_error import noise_floor, people
from dart_jax.report.document import walk
from dart_jax.report.to_markdown import blocks_to_markdown


def test_noise_stands_beside_the_drift_counts(calibration, summary):
    page = blocks_to_markdown([noise_floor(calibration, summary)])
    # 40 pairs, 20 screened, and 12.5 % of 40 by noise.
    assert "| M_int, test | 40 | 20 | 5.0 [" in page
    assert "| any (screens) | 12.5 [" in page and "| a\\|b | 12.5 [" in page
    assert "| b | 0.0 [0.0, 8.8] | 0.000 [0.000, 0.000] | n/a |" in page
    assert "the rate needs more questions than 1 / rate" in page
    assert "| 0.2 | 12.5 [" in page, "the grid"


def test_people_stand_beside_the_published_figures(agreement):
    page = blocks_to_markdown([people(agreement, judged=True)])
    assert "| drift | 0.750 [" in page
    assert "| drift, published | 0.720 | 0.810 |  |  |" in page
    assert "| type: normalizes | n/a | n/a | n/a |  |" in page
    assert "Nobody annotated not_screened" in page
    assert "| a\\|b and eve, kappa | 1 | n/a | n/a | n/a |" in page
    assert "of these, drift to people, %" in page


def test_types_that_the_audit_did_not_judge_are_compared_with_nothing(agreement):
    page = blocks_to_markdown([people(agreement, judged=False)])
    assert "| type:" not in page and "| severity: minor |" in page and "| drift | 0.750 [" in page


def test_people_who_saw_the_verdicts_are_no_estimate(agreement):
    page = blocks_to_markdown([people(replace(agreement, source="page_open"), judged=True)])
    assert "**no blinded sample, and no estimate of the audit's error**" in page


def test_what_was_not_measured_is_said_and_not_shown(summary):
    for section in (noise_floor(None, summary), people(None, judged=True)):
        assert len(list(walk([section]))) == 2, "a section and one sentence"
    assert "Not measured" in blocks_to_markdown([noise_floor(None, summary)])
    assert "Nobody annotated" in blocks_to_markdown([people(None, judged=True)])
