"""What is told from noise, and how many questions the rest would take."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from dart_jax.evaluate.findings import findings, questions_needed
from dart_jax.evaluate.statistics import statistics
from dart_jax.summaries import Estimate
from tests.evaluate.conftest import made_up_summary
from tests.evaluate.test_statistics import CONFIG, QUESTIONS, answers_of, question, scores_of

MANY = [question(n, "D1" if n < 24 else "N2", ("diff", "equal")[n % 2], f"s{n}") for n in range(48)]


def summary_of(right, questions=QUESTIONS):
    """A summary with the statistics of these correct answers."""
    answers = {name: answers_of(name, rows, questions) for name, rows in right.items()}
    found = statistics(questions, answers, scores_of(questions), {}, CONFIG, 0)
    return made_up_summary(statistics=found)


def by_pair(summary):
    return {(one.what, one.candidate, one.baseline): one for one in findings(summary, 0.95)}


def test_a_clear_gain_stands_out_and_a_coin_does_not():
    ones, zeros = np.ones(48, int), np.zeros(48, int)
    coin = np.arange(48) % 2
    found = by_pair(
        summary_of({"M0": zeros, "M_int": ones, "M_DART": coin, "shortcut": ones}, MANY)
    )
    gain = found["accuracy", "M_int", "M0"]
    assert gain.stands_out and gain.needed is None and gain.difference.value == 1.0
    assert gain.difference.low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 48)))
    assert found["accuracy", "M_DART", "M_int"].difference.value == -0.5
    assert found["accuracy", "M_DART", "shortcut"].stands_out
    against_a_coin = found["accuracy", "M_DART", "coin"]
    assert not against_a_coin.stands_out and against_a_coin.p == 1.0
    assert against_a_coin.needed is None, "no number of questions shows a difference of zero"


def test_an_interval_without_a_test_behind_it_is_not_enough():
    """Four right answers more of eight: the bootstrap is sure, the exact test is not."""
    right = {"M0": [0] * 8, "M_int": [1, 0] * 4, "M_DART": [1, 0] * 4}
    gain = by_pair(summary_of(right, MANY[:8]))["accuracy", "M_int", "M0"]
    assert gain.difference.low > 0 and gain.p == 0.125
    assert not gain.stands_out and gain.needed > 8


def test_two_questions_answered_alike_are_no_certainty():
    right = {"M0": [0, 0], "M_int": [1, 1], "M_DART": [1, 1]}
    two = [question(0, "D1", "diff", "a"), question(1, "D1", "equal", "b")]
    gain = by_pair(summary_of(right, two))["accuracy", "M_int", "M0"]
    assert gain.difference.value == 1.0 and gain.difference.low < 0
    assert not gain.stands_out


def test_drift_is_among_the_findings_where_there_was_any(summary):
    found = by_pair(summary)["confirmed drift", "M_DART", "M_int"]
    assert (found.difference, found.p) == (Estimate(0.8, 0.55, 0.93), 0.0703)
    assert not found.stands_out and found.needed == 41
    clear = replace(summary, drift=replace(summary.drift, reduction_p=0.01))
    assert by_pair(clear)["confirmed drift", "M_DART", "M_int"].stands_out
    none = replace(summary, drift=replace(summary.drift, reduction=None))
    assert findings(none, 0.95) == []


def test_the_number_of_questions_has_the_power_it_promises():
    """With a standard error of sd / sqrt(n), z(0.975) + z(0.8) standard errors are the effect."""
    sd, questions, effect = 0.7, 100, 0.1
    reach = norm.ppf(0.975) * sd / np.sqrt(questions)
    needed = questions_needed(Estimate(effect, effect - reach, effect + reach), questions, 0.95)
    power = norm.sf(norm.ppf(0.975) - effect * np.sqrt(needed) / sd)
    assert power == pytest.approx(0.8, abs=0.002)
    mirrored = Estimate(-effect, -effect - reach, -effect + reach)
    assert questions_needed(mirrored, questions, 0.95) == needed


@pytest.mark.parametrize(
    "difference", [Estimate(0.0, -0.1, 0.1), Estimate(0.2), Estimate(1.0, 1.0, 1.0)]
)
def test_where_no_number_follows_there_is_none(difference):
    assert questions_needed(difference, 32, 0.95) is None
