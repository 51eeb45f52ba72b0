"""The whole command on a tiny model: both sides, each in its own process; the contest is slow."""

import json
import sys

import pytest

from dart_jax.bench.commands import main
from tests.compiling import QUICKLY


@pytest.fixture(scope="module")
def result(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "result.json"
    sizes = "--examples 4 --rounds 2 --batch-size 4 --peer-batches 2"
    types = "--ours-dtype float32 --peer-dtype float32 --packing shared_prefix segments"
    types += " --peer-kinds plain supervised packed"
    command = f"train --model {tiny_model} {sizes} {types} --out {out}"
    with pytest.MonkeyPatch.context() as patch:
        # One device, and quick to compile.
        patch.setenv("XLA_FLAGS", QUICKLY)
        assert main(command.split()) == 0
    return json.loads(out.read_text("utf-8"))


@pytest.mark.slow
def test_all_ways_to_train_compute_the_same_losses(result):
    """Without dropout, before and after one update."""
    check = result["same_losses"]
    assert check["examples"] == 4
    expected = check["ours"]["shared_prefix"]
    assert expected[0] - expected[1] > 1e-3, "the update must have an effect"
    assert check["ours"]["segments"] == pytest.approx(expected, rel=1e-4)
    assert set(check["peers"]) == {"plain", "supervised", "packed"}
    for peer in check["peers"].values():
        assert peer["losses"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_both_sides_did_the_same_work(result):
    ours, peer = result["ours"], result["peers"][result["best_peer"]]
    assert result["examples"] == 4
    kinds = {"", "-supervised", "-packed"}
    assert set(result["peers"]) == {f"hf-float32-b2{kind}" for kind in kinds}
    assert len(ours["losses"]) == len(peer["losses"]) == 2
    # Two epochs of the same training; only the dropout noise differs.
    assert ours["losses"] == pytest.approx(peer["losses"], rel=0.01)
    assert ours["losses"][1] < ours["losses"][0]
    for rate in ("real_tokens", "supervised_tokens"):
        per_example = [s[f"{rate}_per_second"] / s["examples_per_second"] for s in (ours, peer)]
        assert per_example[0] == pytest.approx(per_example[1])


@pytest.mark.slow
def test_the_numbers_say_how_they_came_about(result):
    ours, peer = result["ours"], result["peers"][result["best_peer"]]
    packings = {"shared_prefix", "segments"}
    assert set(ours["variants"]) == {f"ours-float32-{packing}" for packing in packings}
    assert ours["packing"] in packings and ours["dtype"] == "float32"
    assert (peer["stage"], peer["attention"], peer["device"]) == ("rounds", "sdpa", "cpu")
    assert peer["trained_parameters"] == 2 * 16 * (4 * 32 + 2 * (32 + 16) + 3 * (32 + 48))
    ratio = ours["examples_per_second"] / peer["examples_per_second"]
    assert result["ratio_vs_best_peer"] == pytest.approx(ratio)
    by_packing = result["by_packing"]
    assert set(by_packing) == packings
    assert max(r["ratio_vs_best_peer"] for r in by_packing.values()) == pytest.approx(ratio)
    memory = ours["peak_rss_bytes"] / peer["peak_rss_bytes"]
    assert result["memory_ratio"] == pytest.approx(memory)
    assert result["failed"] == {}
    assert {"jax", "torch", "peft", "python"} <= set(result["versions"])
    assert result["machine"]["cores"] >= 1


def test_an_absent_library_of_the_peer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        RuntimeError, match="comparison with Hugging Face needs peft, not installed here"
    ):
        main(["train", "--examples", "4"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--batch-size 8 --peer-batches 3", "--peer-batches 3 does not divide"),
        ("--examples 4", "--peer-batches 8 is more than --examples"),
        ("--examples 100000", "there are only 320"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match=message):
        main(["train", *arguments.split()])


def test_a_large_shape_needs_an_accelerator():
    pytest.importorskip("peft")
    with pytest.raises(RuntimeError, match="jax sees only a CPU"):
        main(["train", "--shape", "llama-3-8b"])
