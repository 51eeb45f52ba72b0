"""The arithmetic of a comparison, its refusals, and the order of the rounds."""

import dataclasses
import math
from functools import partial

import pytest

from dart_jax.bench import contest as contests
from dart_jax.bench.contest import Contest, compare, contest, finalists, summarise, table
from dart_jax.bench.equal_losses import FLOAT32_TOLERANCES, compare_losses
from dart_jax.bench.generate import COLUMNS, compare_modes, same_tokens
from dart_jax.bench.jobs import (
    ADAPTED,
    BASE,
    Answers,
    DecodeJob,
    Epoch,
    Round,
    TrainJob,
    Variant,
)
from dart_jax.bench.train import other_kinds, ratios_by_packing
from dart_jax.model.config import LoraConfig
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example

PAIRS, EXAMPLES = DecodeJob.rate, TrainJob.rate
DECODE = DecodeJob("m", "a", {"q0": (1,), "q1": (2,)}, 3)


def train_job(*lengths):
    examples = tuple(Example(f"e{n}", tuple(range(n)), 1, 1.0) for n in lengths)
    return TrainJob("m", None, examples, LoraConfig(), SftConfig(batch_size=2), (), 0)


def answers(base=((1, 2, 3), (4, 5, 6)), adapted=((7, 8, 9), (4, 5, 6))):
    tokens = {BASE: [list(row) for row in base], ADAPTED: [list(row) for row in adapted]}
    return Answers(tokens, {BASE: ["length"] * 2, ADAPTED: ["length"] * 2})


def training(name, seconds, *, device=None, loss=1.0, batch=None):
    rounds = [Round(s, Epoch(loss, 20), int(s * 1e9), device) for s in seconds]
    return summarise(train_job(6, 4), (Variant(name, "float32", batch), rounds, {}))


def decoding(framework, seconds, *, dtype="float32", stage="rounds", memory=10):
    rounds = [Round(s, answers(), memory, None) for s in seconds]
    return summarise(DECODE, (Variant(framework, dtype, 8), rounds, {})) | {"stage": stage}


def test_rates_are_medians_and_memory_is_the_largest():
    found = training("ours", (2.0, 1.0, 5.0))
    assert found[EXAMPLES] == 1.0
    assert (found[f"{EXAMPLES}_min"], found[f"{EXAMPLES}_max"]) == (0.4, 2.0)
    assert found["real_tokens_per_second"] == 5.0
    assert found["padded_tokens_per_second"] == 10.0
    assert found["supervised_tokens_per_second"] == 4.0
    assert found["peak_rss_bytes"] == 5_000_000_000
    assert found["peak_device_bytes"] is None
    found = decoding("ours", (2.0, 1.0, 4.0))
    assert (found[PAIRS], found["new_tokens_per_second"]) == (1.0, 6.0)
    assert found["new_tokens_per_answer"] == 3.0
    assert found["stops"] == {"M0": {"length": 2}, "adapter": {"length": 2}}


def test_rounds_that_did_not_do_the_job_are_an_error():
    with pytest.raises(RuntimeError, match="ours-float32: its losses are"):
        training("ours", (1.0,), loss=math.nan)
    short = answers(base=((1, 2), (4, 5, 6)))
    rounds = [Round(1.0, result, 10, None) for result in (answers(), short)]
    with pytest.raises(RuntimeError, match=r"hf-float32-b8: \[12, 11\] new tokens .* not 12"):
        summarise(DECODE, (Variant("hf", "float32", 8), rounds, {}))


@pytest.mark.parametrize(("device", "memory"), [(None, 2.0), (7, 1.0)])
def test_the_comparison_is_of_medians_and_of_rounds_in_turn(device, memory):
    ours = training("ours", (2.0, 1.0, 4.0), device=device)
    peer = training("hf", (2.0, 2.0, 2.0), device=device)
    found = compare(Contest({"ours": ours}, {"hf": peer}), EXAMPLES)
    assert found["ratio_vs_best_peer"] == 1.0
    assert (found["ratio_min"], found["ratio_max"]) == (0.5, 2.0)
    assert found["memory_ratio"] == memory


def test_finalists_are_the_fastest_and_what_is_near():
    assert finalists({"a": 1.0, "b": 10.0, "c": 9.5, "d": 9.4}) == ["b", "c"]
    assert finalists({"a": 8.0, "b": 10.0}) == ["b"]


def test_a_weighted_example_is_refused():
    plain = train_job(4, 2)
    assert plain.steps_per_epoch == 1 and train_job(4, 2, 3).steps_per_epoch == 2
    heavy = dataclasses.replace(plain.examples[1], weight=2.0)
    with pytest.raises(ValueError, match="e2: its weight is not 1"):
        dataclasses.replace(plain, examples=(plain.examples[0], heavy))


def test_equal_losses_agree():
    found = compare_losses("plain", [2.00001, 1.0], [2.0, 1.0], FLOAT32_TOLERANCES)
    assert found["relative_differences"] == pytest.approx([5e-6, 0.0], rel=1e-3)


@pytest.mark.parametrize("losses", [[2.001, 1.0], [2.0, 1.01], [math.nan, 1.0]])
def test_other_losses_are_an_error(losses):
    with pytest.raises(RuntimeError, match="packed does not compute the same losses"):
        compare_losses("packed", losses, [2.0, 1.0], FLOAT32_TOLERANCES)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"base": ((1, 2, 3), (4, 9, 6))}, "M0, q1, new token 1 is 5 in ours and 9 there"),
        ({"adapted": ((7, 8), (4, 5, 6))}, "adapter, q0, new token 2 is 9 in ours and None"),
    ],
)
def test_other_tokens_are_an_error(theirs, message):
    assert same_tokens(DECODE, answers(), answers(), "hf")["tokens"] == 12
    with pytest.raises(RuntimeError, match=message):
        same_tokens(DECODE, answers(), answers(**theirs), "hf")


def test_an_adapter_without_effect_is_an_error():
    idle = answers(adapted=((1, 2, 3), (4, 5, 6)))
    with pytest.raises(RuntimeError, match="adapter's answers are the base model's"):
        same_tokens(DECODE, idle, idle, "hf")


def test_the_best_of_either_side_are_compared_under_each_rule():
    slow, fast = decoding("ours", (2.0, 2.0)), decoding("ours", (1.0, 1.0), dtype="bfloat16")
    quick_once = decoding("hf", (0.1,), dtype="bfloat16", stage="tuning")
    peer = decoding("hf", (3.0, 5.0), memory=40)
    release = decoding("release", (8.0, 8.0), memory=50)

    def by_name(*entries):
        return {entry["variant"]: entry for entry in entries}

    modes = {
        "fixed": Contest(by_name(slow, fast), by_name(quick_once, peer)),
        "natural": Contest(by_name(slow), by_name(peer)),
        "sampled": Contest(by_name(slow, fast), by_name(release)),
    }
    found = compare_modes(modes)
    assert found["ours"]["variant"] == "ours-bfloat16-b8"
    assert found["ours"]["variant_natural"] == "ours-float32-b8"
    assert found["best_peer"] == found["best_peer_natural"] == "hf-float32-b8"
    # Medians over the rounds: the peer's of 2/3 and 2/5 pairs a second is 8/15.
    assert found["ratio_vs_best_peer"] == pytest.approx(2.0 * 15 / 8)
    assert (found["ratio_min"], found["ratio_max"]) == (3.0, 5.0)
    assert found["ratio_vs_best_peer_natural"] == pytest.approx(1.0 * 15 / 8)
    assert found["ratio_vs_release_settings"] == pytest.approx(8.0)
    assert found["memory_ratio"] == 0.25
    assert set(found["peers"]["hf-float32-b8"]) == {"fixed", "natural"}

    alone = compare_modes({"natural": modes["natural"]})
    assert "ratio_vs_best_peer" not in alone
    assert alone["ratio_vs_best_peer_natural"] == found["ratio_vs_best_peer_natural"]

    shown = table(modes["fixed"], PAIRS, COLUMNS)
    lines = shown.splitlines()
    assert lines[1].startswith("hf-bfloat16-b8") and "tuning only" in lines[1]
    assert len({len(line) for line in lines[:-1]}) == 1, "aligned"
    assert "3.75 times as fast (3.00 - 5.00 by round), 0.25 times the memory" in shown


class Recorded:
    """A worker that notes its rounds instead of running them."""

    def __init__(self, seconds, order, variant):
        self.variant, self._seconds, self._order = variant, seconds, order

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def facts(self):
        return {"matmul_flops_per_second": 1.0}

    def round(self, epoch):
        self._order.append((self.variant.name, epoch))
        return Round(self._seconds[self.variant.name], Epoch(1.0, 20), 10, None)


def test_the_fastest_peer_is_tried_in_its_other_ways(tmp_path, monkeypatch):
    seconds = {"ours-float32": 1.0, "hf-float32-b1-supervised": 4.0}
    seconds |= {"hf-float32-b2-supervised": 3.0, "hf-float32-b2": 5.0}
    seconds |= {"hf-float32-b2-packed": 2.0}
    order, kinds = [], ["plain", "supervised", "adapter", "packed"]
    monkeypatch.setattr(contests, "start", lambda _, v, __: Recorded(seconds, order, v))
    peers = [Variant("hf", "float32", size, kind="supervised") for size in (1, 2)]
    refine = partial(other_kinds, kinds)
    ours = [Variant("ours", "float32")]
    done = contest(train_job(6, 4), ours, peers, 1, tmp_path, refine=refine)
    tuned = ["hf-float32-b1-supervised", "hf-float32-b2-supervised", "hf-float32-b2"]
    tuned += ["hf-float32-b2-packed"]
    assert [name for name, _ in order] == [*tuned, "ours-float32", "hf-float32-b2-packed"]
    assert set(done.peers) == set(tuned)
    assert compare(done, EXAMPLES)["ratio_vs_best_peer"] == 2.0


def test_each_packing_of_ours_is_compared_with_the_best_peer():
    ours = {
        name: training("ours", (seconds,)) | {"packing": name}
        for name, seconds in (("none", 4.0), ("segments", 2.0))
    }
    peers = {"a": training("hf", (4.0,)), "b": training("hf", (8.0,))}
    found = ratios_by_packing(Contest(ours, peers))
    ratios = {packing: ratio["ratio_vs_best_peer"] for packing, ratio in found.items()}
    assert ratios == {"none": 1.0, "segments": 2.0}


def test_tuned_variants_and_ours_take_turns(tmp_path, monkeypatch):
    order, job = [], train_job(6, 4)
    seconds = {"ours-float32": 1.0, "hf-float32-b1": 4.0, "hf-float32-b2": 2.0}
    monkeypatch.setattr(contests, "start", lambda _, v, __: Recorded(seconds, order, v))
    peers = [Variant("hf", "float32", size) for size in (1, 2)]
    done = contest(job, [Variant("ours", "float32")], peers, 2, tmp_path)
    assert order == [
        ("hf-float32-b1", 0),
        ("hf-float32-b2", 0),
        *[(name, epoch) for epoch in (0, 1) for name in ("ours-float32", "hf-float32-b2")],
    ]
    assert done.peers["hf-float32-b1"]["stage"] == "tuning"
    assert done.peers["hf-float32-b2"]["stage"] == done.ours["ours-float32"]["stage"] == "rounds"
    assert compare(done, EXAMPLES)["ratio_vs_best_peer"] == 2.0
