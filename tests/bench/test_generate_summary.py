"""The arithmetic of the decoding comparison."""

import pytest

from dart_jax.bench.generate_job import (
    ADAPTED,
    BASE,
    Answer,
    BenchPrompt,
    GenerateJob,
    GenerateVariant,
    PairsRound,
)
from dart_jax.bench.generate_summary import (
    compare_modes,
    pairs_table,
    same_tokens,
    summarise_pairs,
)
from dart_jax.bench.rounds import Measured

JOB = GenerateJob("m", "a", (BenchPrompt("q0", (1,)), BenchPrompt("q1", (2,))), 3)


def a_round(seconds=2.0, base=((1, 2, 3), (4, 5, 6)), adapted=((7, 8, 9), (4, 5, 6)), memory=10):
    answers = {
        BASE: tuple(Answer(row, "length") for row in base),
        ADAPTED: tuple(Answer(row, "length") for row in adapted),
    }
    return PairsRound(seconds, answers, memory, None)


def entry(framework, seconds, *, dtype="float32", stage="rounds", memory=10):
    rounds = [a_round(s, memory=memory) for s in seconds]
    one = Measured(GenerateVariant(framework, dtype, 8), {"device": "x"}, 1.0, 1e9, rounds)
    return summarise_pairs(JOB, one) | {"stage": stage}


def test_rates_are_medians():
    found = entry("ours", (2.0, 1.0, 4.0))
    assert found["pairs_per_second"] == 1.0
    assert (found["pairs_per_second_min"], found["pairs_per_second_max"]) == (0.5, 2.0)
    assert found["new_tokens_per_second"] == 6.0
    assert found["new_tokens_per_answer"] == 3.0
    assert found["stops"] == {"M0": {"length": 2}, "adapter": {"length": 2}}


def test_another_number_of_tokens_than_the_fixed_one_is_an_error():
    short = a_round(base=((1, 2), (4, 5, 6)))
    one = Measured(GenerateVariant("hf", "float32", 8), {}, 1.0, 1e9, [a_round(), short])
    with pytest.raises(RuntimeError, match=r"hf-float32-b8: \[12, 11\] new tokens .* not 12"):
        summarise_pairs(JOB, one)


def test_the_same_tokens_agree():
    assert same_tokens(JOB, a_round(), a_round(3.0)) == {"prompts": 2, "answers": 4, "tokens": 12}


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"base": ((1, 2, 3), (4, 9, 6))}, "M0, q1, new token 1 is 5 in ours and 9 in the peer"),
        ({"adapted": ((7, 8), (4, 5, 6))}, "adapter, q0, new token 2 is 9 in ours and None"),
    ],
)
def test_other_tokens_are_an_error(theirs, message):
    with pytest.raises(RuntimeError, match=message):
        same_tokens(JOB, a_round(), a_round(**theirs))


def test_an_adapter_without_effect_is_an_error():
    idle = a_round(adapted=((1, 2, 3), (4, 5, 6)))
    with pytest.raises(RuntimeError, match="adapter's answers are the base model's"):
        same_tokens(JOB, idle, idle)


def test_the_best_of_either_side_are_compared_under_each_rule():
    slow, fast = entry("ours", (2.0, 2.0)), entry("ours", (1.0, 1.0), dtype="bfloat16")
    quick_once = entry("hf", (0.1,), dtype="bfloat16", stage="tuning")
    peer, release = entry("hf", (3.0, 5.0), memory=40), entry("release", (8.0, 8.0), memory=50)
    found = compare_modes(
        {
            "fixed": {"ours": [slow, fast], "peers": [quick_once, peer]},
            "natural": {"ours": [slow], "peers": [peer]},
            "sampled": {"ours": [slow, fast], "peers": [release]},
        }
    )
    assert found["ours"]["variant"] == "ours-bfloat16-b8"
    assert found["ours"]["variant_natural"] == "ours-float32-b8"
    assert found["best_peer"] == found["best_peer_natural"] == "hf-float32-b8"
    # Medians over the rounds: the peer's of 2/3 and 2/5 pairs a second is 8/15.
    assert found["ratio_vs_best_peer"] == pytest.approx(2.0 * 15 / 8)
    assert (found["ratio_min"], found["ratio_max"]) == (3.0, 5.0)
    assert found["ratio_vs_best_peer_natural"] == pytest.approx(1.0 * 15 / 8)
    assert found["ratio_vs_release_settings"] == pytest.approx(8.0)
    assert found["memory_ratio"] == 0.25
    table = pairs_table(found)
    assert table.count("ours-bfloat16-b8") == 2
    assert "tuning only" in table
    assert "3.75 times as fast (3.00 - 5.00 by round), 0.25 times the memory" in table
    assert "release's settings: 8.00 times" in table
