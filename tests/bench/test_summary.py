"""The arithmetic of the comparison."""

import math

import pytest

from dart_jax.bench.job import Job, Round, Variant
from dart_jax.bench.rounds import Measured
from dart_jax.bench.summary import agreement, compare, finalists, summarise, tuned_rate
from dart_jax.model.config import LoraConfig
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example


def measured(name, seconds, *, padded=200, device=None, loss=1.0, micro_batch=None):
    rounds = [Round(s, loss, 10, 100, padded, 50, int(s * 1e9), device) for s in seconds]
    return Measured(Variant(name, "float32", micro_batch), {"device": "x"}, 1.0, 1e9, rounds)


def test_rates_are_medians_and_memory_is_the_largest():
    found = summarise(measured("ours", (2.0, 1.0, 5.0)))
    assert found["examples_per_second"] == 5.0
    assert (found["examples_per_second_min"], found["examples_per_second_max"]) == (2.0, 10.0)
    assert found["real_tokens_per_second"] == 50.0
    assert found["padded_tokens_per_second"] == 100.0
    assert found["supervised_tokens_per_second"] == 25.0
    assert found["peak_rss_bytes"] == 5_000_000_000
    assert found["peak_device_bytes"] is None


def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(RuntimeError, match="ours-float32: its losses are"):
        summarise(measured("ours", (1.0,), loss=math.nan))


@pytest.mark.parametrize(("device", "memory"), [(None, 2.0), (7, 1.0)])
def test_the_comparison_is_of_medians_and_of_rounds_in_turn(device, memory):
    ours = summarise(measured("ours", (2.0, 1.0, 4.0), device=device))
    peer = summarise(measured("hf", (2.0, 2.0, 2.0), device=device))
    found = compare(ours, peer)
    assert found["ratio_vs_best_peer"] == 1.0
    assert (found["ratio_min"], found["ratio_max"]) == (0.5, 2.0)
    assert found["memory_ratio"] == memory


def test_finalists_are_the_fastest_and_what_is_near():
    assert finalists({"a": 1.0, "b": 10.0, "c": 9.5, "d": 9.4}) == ["b", "c"]
    assert finalists({"a": 8.0, "b": 10.0}) == ["b"]


def test_a_tuning_round_is_judged_by_the_padding_of_the_whole_job():
    """Lengths 4 4 2 2 in twos pad nothing; the round computed 200 positions in 2 seconds."""
    examples = tuple(Example("e", tuple(range(n)), 1, 1.0) for n in (4, 2, 4, 2))
    job = Job("m", None, examples, LoraConfig(), SftConfig(), (), 0)
    assert tuned_rate(measured("hf", (2.0,), micro_batch=2), job) == pytest.approx(100 * 4 / 12)
    assert tuned_rate(measured("hf", (2.0,), micro_batch=4), job) == pytest.approx(100 * 4 / 16)
    assert tuned_rate(measured("ours", (2.0,), micro_batch=4), job) == 5.0


def test_equal_losses_agree():
    found = agreement([2.0, 1.0], [2.00001, 1.0], 4)
    assert found["relative_differences"] == pytest.approx([5e-6, 0.0], rel=1e-3)


@pytest.mark.parametrize("ours", [[2.001, 1.0], [2.0, 1.01], [math.nan, 1.0]])
def test_other_losses_are_an_error(ours):
    with pytest.raises(RuntimeError, match="do not compute the same losses"):
        agreement(ours, [2.0, 1.0], 4)
