"""The summary's fixed keys, and what must not get into it."""

import json
import math

import pytest

from dart_jax.evaluate.summary import build_summary, write_summary


def test_keys_that_scripts_rely_on(parts, tmp_path):
    path = tmp_path / "evaluation" / "summary.json"
    write_summary(path, build_summary(**parts))
    found = json.loads(path.read_text(encoding="utf-8"))
    assert list(found["models"]) == ["M0", "M_int", "M_DART"]
    assert found["models"]["M_DART"]["by_benchmark"]["N2"]["n"] == 4
    assert found["drift"]["M_int"]["by_severity"]["extreme"] == 1
    assert found["drift"]["reduction"] == pytest.approx(1 - 2 / 10)
    assert found["shortcut_baseline"]["accuracy"] == 0.907
    assert found["shortcut_baseline"]["by_benchmark"]["N2"]["n"] == 4
    assert (found["protocol"], found["split_by"]) == ("heldout", "row")
    assert found["seconds"] == {"teach": 1.25, "distill": 30.0}
    assert found["m_dart_is_m_int"] is False


@pytest.mark.parametrize("repair", [{}, {"minor": {"examples": 0, "weight_mass": 0.0}}])
def test_nothing_to_repair(parts, repair):
    assert build_summary(**{**parts, "repair": repair})["m_dart_is_m_int"] is True


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("models", {"M0": {}}, "models: expected M0, M_int, M_DART"),
        ("drift", {"M_int": {}, "M0": {}}, "drift: expected M_int, M_DART"),
        ("repair", {"mild": {"examples": 1}}, "unknown severity 'mild'"),
        ("shortcut", {"accuracy": math.nan}, "not JSON compliant"),
    ],
)
def test_wrong_parts_raise(parts, key, value, words):
    with pytest.raises(ValueError, match=words):
        build_summary(**{**parts, key: value})
