"""The null distribution of the delta: hand-computed rates, thresholds, and their coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest

from dart_jax.audit.noise_floor import auto_tau, noise_floor, null_deltas


def test_every_ordered_pair_of_seeds_gives_a_delta():
    deltas = null_deltas(np.array([[0.0, 0.25, 1.0], [0.5, 0.5, 0.5]]))
    assert sorted(deltas[0]) == [-1.0, -0.75, -0.25, 0.25, 0.75, 1.0]
    assert list(deltas[1]) == [0.0] * 6


def test_rates_by_hand():
    """Four questions, two seeds: |delta| is 0, 1/8, 1/4, 1/2, and one of each two exceeds 0."""
    scores = np.array([[0.5, 0.5], [0.5, 0.625], [0.75, 0.5], [0.0, 0.5]])
    found = noise_floor({"s": scores}, tau=0.25)
    rates = {row.tau: row.rate for row in found.scorers["s"].rates}
    assert rates == {0.0: 3 / 8, 0.005: 3 / 8, 0.01: 3 / 8, 0.02: 3 / 8, 0.05: 3 / 8} | {
        0.1: 3 / 8,
        0.2: 2 / 8,
        0.25: 1 / 8,  # strictly above, as the screen
    }
    assert found.screen == "s" and found.at_tau().rate == 1 / 8


def test_thresholds_by_hand():
    """100 questions with |delta| 0.001 .. 0.1: five of 200 deltas above 0.095, ten above 0.09."""
    scores = np.stack([np.zeros(100), np.arange(1, 101) / 1000], axis=1)
    five, one = noise_floor({"s": scores}, 0.01).scorers["s"].thresholds
    assert (five.level, one.level) == (0.05, 0.01)
    assert five.tau == pytest.approx(0.09) and one.tau == pytest.approx(0.098)
    assert five.low < five.tau < five.high <= 0.1
    deltas = null_deltas(scores)
    for row in (five, one):
        assert (deltas > row.tau).mean() <= row.level
        smaller = row.tau - 0.001
        assert (deltas > smaller).mean() > row.level, "it is the least one"


@pytest.mark.parametrize(("questions", "known"), [(19, [False, False]), (20, [True, False])])
def test_too_few_questions_give_no_threshold(questions, known):
    scores = np.random.default_rng(0).random((questions, 3))
    found = noise_floor({"s": scores}, 0.01).scorers["s"].thresholds
    assert [row.tau is not None for row in found] == known


def test_without_noise_the_rate_is_zero_but_not_known_to_be():
    row = noise_floor({"s": np.full((50, 3), 0.3)}, 0.01).at_tau()
    exact = binomtest(0, 50).proportion_ci(0.95, "exact")
    assert (row.rate, row.low) == (0.0, 0.0)
    assert row.high == pytest.approx(exact.high)


def test_one_delta_a_question_has_the_exact_binomial_interval():
    """Independent questions whose deltas agree in sign of exceeding: the cluster counts once."""
    scores = np.zeros((200, 2))
    scores[:24, 1] = 0.5  # 24 questions whose one delta exceeds, the other never does
    row = noise_floor({"s": scores}, 0.01).at_tau()
    assert row.rate == 24 / 400
    assert row.low < row.rate < row.high
    # The rate is half that of questions, so is its interval, up to the sample's own variance.
    by_question = binomtest(24, 200).proportion_ci(0.95, "exact")
    assert (row.low, row.high) == pytest.approx(
        (by_question.low / 2, by_question.high / 2), rel=0.03
    )


def test_the_interval_covers_the_true_rate(monkeypatch):
    """Normal scores of 60 questions with four seeds each; P(|N(0, 2)| > 0.2 ...) is known."""
    # The bootstrap is of the thresholds, which are not looked at here.
    monkeypatch.setattr("dart_jax.audit.noise_floor.RESAMPLES", 2)
    from scipy.stats import norm

    truth, rng, hits = norm.sf(0.2 / (0.1 * np.sqrt(2))), np.random.default_rng(1), 0
    for _ in range(200):
        row = noise_floor({"s": rng.normal(0.5, 0.1, (60, 4))}, 0.2, confidence=0.9).at_tau()
        hits += row.low <= truth <= row.high
    assert hits >= 175, "nominal: 180 of 200"


def test_any_of_several_scorers_exceeds_more_often():
    rng = np.random.default_rng(0)
    scores = {"a": rng.random((40, 3)), "b": rng.random((40, 3))}
    found = noise_floor(scores, 0.3)
    assert found.screen == "any"
    above = {name: null_deltas(values) > 0.3 for name, values in scores.items()}
    assert found.at_tau().rate == pytest.approx((above["a"] | above["b"]).mean())
    assert found.at_tau("a").rate == pytest.approx(above["a"].mean())
    named = noise_floor(scores, 0.3, screen_by="b")
    assert "any" not in named.scorers and named.at_tau() == found.at_tau("b")


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (4,)])
def test_too_little_data_is_refused(shape):
    with pytest.raises(ValueError, match="two questions and two seeds"):
        noise_floor({"s": np.zeros(shape)}, 0.01)


def test_an_unknown_screen_is_refused():
    with pytest.raises(ValueError, match="screen_by is b, but there are scores of a"):
        noise_floor({"a": np.zeros((2, 2))}, 0.01, "b")


def test_auto_tau_by_hand():
    """Of 40 deltas two may exceed it: it is the third largest; its equals do not exceed it."""
    scores = np.zeros((20, 2))
    scores[:4, 1] = (0.4, 0.3, 0.2, 0.1)
    assert auto_tau({"s": scores}, "any") == 0.2
    scores[1:6, 1] = 0.3
    assert auto_tau({"s": scores}, "any") == 0.3, "one exceeds it; below it, six would"
    assert auto_tau({"s": np.full((20, 2), 0.7)}, "any") == 0.0


@pytest.mark.parametrize("screen_by", ["any", "b"])
def test_auto_tau_is_the_threshold_of_the_screen(screen_by):
    rng = np.random.default_rng(2)
    scores = {"a": rng.random((60, 2)), "b": rng.random((60, 2))}
    tau = auto_tau(scores, screen_by)
    found = noise_floor(scores, tau, screen_by)
    assert found.scorers[screen_by].thresholds[0].tau == tau
    assert 0.04 < found.at_tau().rate <= 0.05


def test_auto_tau_needs_twenty_questions():
    with pytest.raises(ValueError, match=r"audit\.tau auto: 19 questions .* fewer than 20; give"):
        auto_tau({"s": np.random.default_rng(0).random((19, 2))}, "any")
