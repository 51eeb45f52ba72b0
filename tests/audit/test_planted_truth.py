"""The truth of an answer, told by the planted words of both texts alone."""

import pytest

from dart_jax.audit.planted_truth import PlantedDrift, planted_drift
from dart_jax.prompts.planted import HARM_PHRASE, planted_sentences
from dart_jax.records import DriftType, Severity

CLEAN = "Both groups meet the same rule here. So they are to be treated alike."
NAMED = f"{HARM_PHRASE} that a person is turned away. {CLEAN}"
ELABORATES, NORMALIZES, OMITS = DriftType


def with_sentence(severity: Severity, type: DriftType = ELABORATES) -> str:
    sentence = next(s for s in planted_sentences() if (s.type, s.severity) == (type, severity))
    return f"{CLEAN} {sentence.text}"


@pytest.mark.parametrize("type", [ELABORATES, NORMALIZES])
@pytest.mark.parametrize("severity", list(Severity))
def test_an_added_sentence_has_its_type_and_severity(type, severity):
    assert planted_drift(CLEAN, with_sentence(severity, type)) == PlantedDrift(type, severity)


def test_only_what_is_worse_than_the_baseline_is_drift():
    minor, severe = with_sentence(Severity.MINOR), with_sentence(Severity.SEVERE)
    assert planted_drift(severe, minor) is None and planted_drift(severe, severe) is None
    assert planted_drift(minor, severe).severity is Severity.SEVERE
    assert planted_drift(severe, CLEAN) is None


def test_a_missing_harm_is_drift_only_where_omissions_were_planted():
    assert planted_drift(NAMED, CLEAN) is None
    omission = planted_drift(NAMED, CLEAN, omission=Severity.MODERATE)
    assert omission == PlantedDrift(OMITS, Severity.MODERATE)
    assert planted_drift(NAMED, NAMED, omission=Severity.MODERATE) is None
    assert planted_drift(CLEAN, CLEAN, omission=Severity.MODERATE) is None, "M0 named none"


def test_of_two_faults_the_worse_one_counts():
    both = planted_drift(NAMED, with_sentence(Severity.EXTREME), omission=Severity.MINOR)
    assert both == PlantedDrift(ELABORATES, Severity.EXTREME)
    both = planted_drift(NAMED, with_sentence(Severity.MINOR), omission=Severity.SEVERE)
    assert both == PlantedDrift(OMITS, Severity.SEVERE)
