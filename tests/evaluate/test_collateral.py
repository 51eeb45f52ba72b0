"""What else the repair changed: by hand, by identities, and where it is not defined."""

import pytest

from dart_jax.evaluate.collateral import Collateral, collateral
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.findings import stands_out
from dart_jax.records import Generation, StopReason
from dart_jax.summaries import Estimate
from tests.evaluate.test_drift_change import questions

CONFIG = EvaluateConfig(bootstrap_samples=400)


def answers(model: str, texts, lengths) -> list[Generation]:
    rows = zip(questions(len(texts)), texts, lengths, strict=True)
    return [
        Generation(question.id, model, text, None, "none", StopReason.EOS, 9, length)
        for question, text, length in rows
    ]


def compared(drifted, after, lengths=None, kl=()) -> Collateral:
    """M_int answers each question with "a", of ten tokens."""
    asked = questions(len(drifted))
    ids = [question.id for question in asked]
    written = {
        "M_int": answers("M_int", ["a"] * len(ids), [10] * len(ids)),
        "M_DART": answers("M_DART", after, lengths or [10] * len(ids)),
        "M0": [],
    }
    by_id = dict(zip(ids, drifted, strict=True))
    return collateral(asked, written, by_id, dict(zip(ids, kl, strict=bool(kl))), CONFIG, 0)


def test_it_is_told_apart_by_drift():
    """Of eight answers without drift six stay; of four with drift one does."""
    drifted = [False] * 8 + [True] * 4
    lengths = [10] * 6 + [14, 16] + [5] * 4
    found = compared(drifted, [*"aaaaaabb", *"abbb"], lengths, [0.1] * 6 + [0.5] * 2 + [1.0] * 4)
    assert (found.not_drifted.n, found.drifted.n, found.undecided) == (8, 4, 0)
    assert (found.not_drifted.same.value, found.drifted.same.value) == (0.75, 0.25)
    assert found.same_gap.value == 0.5 and found.same_gap.low < 0.5 < found.same_gap.high
    assert found.same_p == pytest.approx(2 / 9)
    assert found.not_drifted.kl.value == pytest.approx(0.2)
    assert found.not_drifted.kl.low < 0.2 < found.not_drifted.kl.high
    assert found.not_drifted.tokens == {"M_int": 10, "M_DART": 11.25}
    assert found.not_drifted.longer.value == 1.25
    assert found.not_drifted.longer_p == 0.5, "two of two scenarios rise"
    assert found.drifted.longer == Estimate(-5.0), "nothing varies that could be resampled"
    assert found.drifted.longer_p == 2 / 2**4


def test_where_only_drifted_answers_change_that_stands_out():
    found = compared([False] * 30 + [True] * 30, ["a"] * 30 + ["b"] * 30)
    assert found.same_gap.value == 1
    # Unseen scenarios may differ on both sides: at most 11.6 % of either.
    assert found.same_gap.low == pytest.approx(1 - 2 * 0.116, abs=1e-3)
    assert stands_out(found.same_gap, found.same_p, 0.95)
    alike = compared([False, True] * 30, ["a", "a", "b", "b"] * 15)
    assert alike.same_gap.value == 0 and alike.same_p == 1
    assert not stands_out(alike.same_gap, alike.same_p, 0.95)


def test_without_drift_there_is_nothing_to_compare_with():
    found = compared([False, None], ["a", "b"])
    assert (found.not_drifted.n, found.drifted.n, found.undecided) == (2, 0, 1)
    assert (found.same_gap, found.same_p) == (Estimate(None), None)
    assert (found.drifted.same, found.drifted.longer) == (Estimate(None), Estimate(None))
    assert (found.drifted.tokens, found.drifted.kl) == ({}, None)
