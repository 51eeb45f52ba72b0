"""Forced decisions by hand: accuracy, the area under the curve, calibration, and their gaps."""

import dataclasses
import math

import numpy as np
import pytest

from dart_jax.evaluate.forced import auroc, auroc_interval, with_forced
from dart_jax.evaluate.metrics import model_metrics
from dart_jax.evaluate.reliability import ReliabilityBin, reliability
from dart_jax.prompts.conclusion import Margin
from dart_jax.records import Question
from tests.evaluate.test_metrics import CONFIG, HAND, YES, generation, question


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def forced(questions, values, config=CONFIG, seed=0):
    """Metrics of a model with these log-odds; it concludes YES by itself."""
    answers = [generation(q.id, YES) for q in questions]
    margins = [Margin(q.id, "M0", value) for q, value in zip(questions, values, strict=True)]
    own = model_metrics(questions, answers, config, seed)
    return own, with_forced(own, questions, margins, config, seed)


def test_by_hand():
    """DIFF at 2, -1, 3, 1, 2 and EQUAL at -2, 2, -1: 5 x 3 pairs."""
    own, found = forced(HAND[0], [2.0, -1.0, -2.0, 2.0, 3.0, 1.0, 2.0, -1.0])
    assert found.forced_accuracy.value == 6 / 8
    assert found.auroc.value == pytest.approx((2.5 + 1.5 + 3 + 2 + 2.5) / 15)
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert found.no_margin == 0
    assert dataclasses.replace(found, forced_accuracy=None, auroc=None, reliability=None) == own, (
        "the strict figures stay"
    )


def test_auroc_with_ties_and_weights():
    positive = np.array([1, 1, 0, 0], bool)
    assert auroc(np.array([2.0, 1.0, 1.0, 0.0]), positive) == 3.5 / 4
    assert auroc(np.array([1.0, 1.0, 1.0, 1.0]), positive) == 0.5
    assert auroc(np.array([0.0, 0.0, 1.0, 1.0]), positive) == 0.0
    assert auroc(np.ones(2), positive[:2]) is None
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.4
        counts = rng.integers(0, 3, 60)
        expected = metrics.roc_auc_score(labels, scores, sample_weight=counts)
        assert auroc(scores, labels, counts) == pytest.approx(expected)


def test_the_interval_draws_whole_scenarios():
    """Ten copies of every question say nothing new: a scenario of ten is still one."""
    rng = np.random.default_rng(1)
    is_diff = np.arange(40) % 2 == 0
    scores = rng.normal(size=40) + is_diff
    clusters = np.arange(40)
    alone = auroc_interval(scores, is_diff, clusters, CONFIG, 0)
    tenfold = [np.repeat(values, 10) for values in (scores, is_diff, clusters)]
    assert auroc_interval(*tenfold, CONFIG, 0) == pytest.approx(alone)
    assert auroc_interval(scores, is_diff, np.zeros(40), CONFIG, 0) is None
    sure = auroc_interval(np.where(is_diff, 1.0, 0.0), is_diff, clusters, CONFIG, 0)
    assert sure == pytest.approx((0.025 ** (1 / min(is_diff.sum(), (~is_diff).sum())), 1.0))
    assert auroc_interval(scores, ~is_diff, clusters, CONFIG, 0) == pytest.approx(
        (1 - alone[1], 1 - alone[0])
    )


def test_calibration_by_hand():
    """Two bins: 0.1 and 0.12 with no DIFF; 0.75 with all of two."""
    found = reliability(np.array([0.1, 0.75, 0.12, 0.75, 1.0]), np.array([0, 1, 0, 1, 0], bool))
    assert found.bins == [
        ReliabilityBin(2, pytest.approx(0.11), 0.0),
        ReliabilityBin(2, 0.75, 1.0),
        ReliabilityBin(1, 1.0, 0.0),
    ]
    assert found.ece == pytest.approx((2 * 0.11 + 2 * 0.25 + 1.0) / 5)
    exact = forced(
        [question(f"q{n}", "diff" if n < 3 else "equal") for n in range(4)], [log_odds(0.75)] * 4
    )[1]
    assert exact.reliability.ece == pytest.approx(0.0)
    sure = forced(HAND[0], [1e4 if q.gold is YES else -1e4 for q in HAND[0]])[1]
    assert (sure.reliability.ece, sure.forced_accuracy.value, sure.auroc.value) == (0.0, 1.0, 1.0)


def test_what_cannot_be_computed_is_absent_and_counted():
    asked = HAND[0]
    own, found = forced(asked, [None] * 8)
    assert found == dataclasses.replace(own, no_margin=8)
    some = forced(asked, [2.0, None, *[1.0] * 6])[1]
    rest = forced([asked[0], *asked[2:]], [2.0, *[1.0] * 6])[1]
    assert (some.no_margin, some.forced_accuracy) == (1, rest.forced_accuracy)
    assert with_forced(own, asked, (), CONFIG, 0) == own
    same_label = forced(asked[:2], [1.0, 2.0])[1]
    assert (same_label.auroc, same_label.forced_accuracy.value) == (None, 1.0)


def test_unlabelled_questions_are_in_no_figure():
    bare = Question("b", "own", None, "text", -1, "s")
    values = [2.0, -1.0, -2.0, 2.0, 3.0, 1.0, 2.0, -1.0]
    alone, mixed = forced(HAND[0], values)[1], forced([*HAND[0], bare], [*values, 9.0])[1]
    assert dataclasses.replace(mixed, unlabelled=0) == alone
