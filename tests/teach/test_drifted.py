"""What a model has said as a target: drifted rationales to unlearn, M0's by their scores."""

import pytest

from dart_jax.records import DriftCase, DriftType, Generation, Score, Severity, StopReason, Target
from dart_jax.sft.config import LossConfig
from dart_jax.teach.config import RepairConfig
from dart_jax.teach.joint import scored_targets
from dart_jax.teach.repair import drifted_targets


def case(id, text):
    return DriftCase(id, "M_int", "base", text, 0.1, DriftType.ELABORATES, Severity.SEVERE)


def repair(id, weight=3.0):
    return Target(id, "repair", "Safe.\nConclusion: NO", weight, Severity.SEVERE, "file", 2)


def test_a_drifted_rationale_mirrors_its_repair():
    """Of accepted repairs only, without the conclusion, which may be right; none without text."""
    cases = [
        case("a", "They are bad.\nConclusion: NO"),
        case("b", "Rejected."),
        case("c", "Conclusion: YES"),
    ]
    replayed = Target("b", "distill", "Good.\nConclusion: NO")
    found = drifted_targets([repair("a", 1.5), repair("c"), replayed], cases)
    expected = Target("a", "drifted", "They are bad.", 1.5, Severity.SEVERE, "drifted", 0)
    assert found == [expected]


def answer(id, text):
    return Generation(id, "M0", text, None, None, StopReason.EOS, 5, 5)


def test_m0s_rationales_by_their_distance_from_the_mean():
    texts = {"a": "Vile.\nConclusion: NO", "b": "Mild.", "c": "Kind.", "d": "", "e": "Fair."}
    values = {"a": 0.9, "b": 0.3, "c": 0.0, "d": 0.0, "e": 0.3}
    answers = [answer(id, text) for id, text in texts.items()]
    scores = [Score(id, "M0", "s", value) for id, value in values.items()]
    found = scored_targets(answers, scores)
    assert [(t.question_id, t.stage, t.completion) for t in found] == [
        ("a", "penalised", "Vile."),
        ("c", "preferred", "Kind."),
    ]
    assert [t.weight for t in found] == pytest.approx([0.6, 0.3])


def test_no_answers_no_targets():
    assert scored_targets([], []) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, r"repair\.epochs: -1"),
        (
            {"replay": 0.0, "loss": LossConfig(kl_weight=1.0)},
            r"repair\.loss\.kl_weight: 1\.0.*repla",
        ),
        ({"loss": LossConfig(toxicity_weight=1.0)}, r"repair\.loss\.toxicity_weight.*sft\.loss"),
    ],
)
def test_repair_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        RepairConfig(**settings)
