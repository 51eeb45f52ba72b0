"""The summary's fixed keys, and what must not get into it."""

import dataclasses
import json
import math

import pytest
from pydantic import TypeAdapter

from dart_jax.evaluate.models import AUDITED
from dart_jax.evaluate.statistics import statistics
from dart_jax.evaluate.summary import RunSummary, drift_of, read_summary, write_summary
from dart_jax.records import BadRecord
from tests.evaluate.conftest import drift, made_up_summary, metrics
from tests.evaluate.test_statistics import CONFIG, QUESTIONS, RIGHT, answers_of, scores_of

ADDED = ("collateral", "incoherent", "drift_by")
"""Keys that a file of an earlier version lacks."""


@pytest.fixture
def whole() -> RunSummary:
    """With every optional part."""
    answers = {name: answers_of(name, right) for name, right in RIGHT.items()}
    found = statistics(QUESTIONS, answers, scores_of(), {}, CONFIG, 0)
    return made_up_summary(statistics=found)


def test_keys_that_scripts_rely_on(whole, tmp_path):
    path = tmp_path / "evaluation" / "summary.json"
    write_summary(path, whole)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert list(found["models"]) == ["M0", "M_int", "M_DART"]
    assert found["models"]["M_DART"]["by_benchmark"]["N2"]["n"] == 4
    assert found["models"]["M0"]["intervals"]["accuracy"] == pytest.approx([0.29, 0.49])
    assert found["drift"]["M_int"]["by_severity"]["extreme"] == 1
    assert found["drift"]["reduction"] == pytest.approx(1 - 2 / 10)
    assert found["shortcut_baseline"]["accuracy"] == 0.907
    assert (found["protocol"], found["split_by"]) == ("heldout", "row")
    assert found["seconds"] == {"teach": 1.25, "distill": 30.0}
    assert found["m_dart_is_m_int"] is False
    [overall] = [row for row in found["statistics"]["accuracy"] if row["by"] == "all"]
    assert {"difference", "interval", "gained", "lost", "p", "p_holm", "p_scenario"} <= set(
        overall["comparisons"][0]
    )


def test_it_reads_back_as_it_was(whole, tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, whole)
    assert read_summary(path) == whole


def test_the_schema_names_every_field():
    """A field that is renamed or dropped breaks the scripts of others."""
    schema = TypeAdapter(RunSummary).json_schema()
    fields = {field.name for field in dataclasses.fields(RunSummary)}
    assert set(schema["properties"]) == fields
    # Later additions have a default, so that summaries from before them are read.
    assert set(schema["required"]) == fields - {"frontier", "rejects_by_type", *ADDED}
    assert schema["additionalProperties"] is False
    definitions = schema["$defs"]
    assert set(definitions["ModelMetrics"]["required"]) >= {"n", "accuracy", "intervals"}
    assert set(definitions["AuditCounts"]["required"]) >= {"pairs", "confirmed", "by_severity"}


def test_a_file_of_an_earlier_version_is_read(whole, tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, whole)
    raw = json.loads(path.read_text(encoding="utf-8"))
    for key in ADDED:
        del raw[key]
    path.write_text(json.dumps(raw), encoding="utf-8")
    earlier = {"collateral": None, "incoherent": None, "drift_by": []}
    assert read_summary(path) == dataclasses.replace(whole, **earlier)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.pop("drift"), "drift"),
        (lambda raw: raw.update(further=1), "further"),
        (lambda raw: raw["models"]["M0"].update(accuracy="high"), "models.M0.accuracy"),
    ],
)
def test_a_file_of_another_version_is_named(change, words, whole, tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, whole)
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(BadRecord, match=f"summary.json: {words}.*run the stage evaluate again"):
        read_summary(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": {"M0": metrics(0.5)}}, "models: expected M0, M_int, M_DART"),
        ({"repair": {"mild": None}}, "unknown severity 'mild'"),
    ],
)
def test_wrong_parts_raise(changes, words):
    with pytest.raises(ValueError, match=words):
        made_up_summary(**changes)


def test_drift_is_of_the_audited_models():
    with pytest.raises(ValueError, match="drift: expected M_int, M_DART"):
        drift_of({"M_int": drift(1, 0, 0, 0), "M0": drift(0, 0, 0, 0)})
    summary = made_up_summary()
    assert [summary.drift.of(name) is None for name in ("M0", *AUDITED)] == [True, False, False]


def test_a_number_that_is_none_is_not_written(tmp_path):
    broken = made_up_summary(shortcut_baseline=metrics(math.nan))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_summary(tmp_path / "summary.json", broken)
