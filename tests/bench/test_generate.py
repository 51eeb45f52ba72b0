"""The whole command on a tiny model: both sides, each in its own process.

The contest is slow: eight processes, half of which import torch. `test_sides` has the
sides themselves, `test_worker` the processes.
"""

import json
import os
import sys

import pytest

from dart_jax.bench.commands import main
from tests.compiling import QUICKLY

PEERS = ("hf", "hf_continuous", "hf_mixed")


@pytest.fixture(scope="module")
def result(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "result.json"
    sizes = "--prompts 3 --tune-prompts 3 --new-tokens 8 --natural-limit 12 --rounds 1 --slots 4"
    sides = "--peer-batches 2 --ours-dtype float32 --peer-dtype float32"
    sides += f" --peers {' '.join(PEERS)}"
    command = f"generate --model {tiny_model} {sizes} {sides} --out {out}"
    cores = os.sched_getaffinity(0)
    with pytest.MonkeyPatch.context() as patch:
        # One device, and quick to compile; one core, because on busy ones torch's threads wait
        # for each other at every small operation.
        patch.setenv("XLA_FLAGS", QUICKLY)
        os.sched_setaffinity(0, {max(cores)})
        try:
            assert main(command.split()) == 0
        finally:
            os.sched_setaffinity(0, cores)
    return json.loads(out.read_text("utf-8"))


@pytest.mark.slow
def test_both_sides_decode_the_same_tokens(result):
    """Base and adapter, rows of several lengths; the adapter's answers are not the base's."""
    checked = result["same_tokens"]["peers"]
    assert set(checked) == set(PEERS)
    for peer in checked.values():
        assert peer["answers"] == 6 and 6 < peer["tokens"] <= 6 * 16


@pytest.mark.slow
def test_a_fixed_number_of_tokens_is_the_same_work(result):
    ours = result["ours"]["variants"]["ours-float32-b4"]
    peers = [result["peers"][f"{peer}-float32-b2"]["fixed"] for peer in PEERS]
    for entry in (ours["fixed"], ours["sampled"], *peers):
        assert entry["new_tokens_per_answer"] == 8
        assert entry["stops"] == {"M0": {"length": 3}, "adapter": {"length": 3}}
        per_pair = entry["new_tokens_per_second"] / entry["pairs_per_second"]
        assert per_pair == pytest.approx(2 * 8, rel=0.2)
        assert len(entry["round_seconds"]) == 1


@pytest.mark.slow
def test_natural_stops_are_the_same_on_both_sides(result):
    ours = result["ours"]["variants"]["ours-float32-b4"]["natural"]
    for name in PEERS:
        peer = result["peers"][f"{name}-float32-b2"]["natural"]
        assert ours["stops"] == peer["stops"]
        assert ours["new_tokens_per_answer"] == peer["new_tokens_per_answer"] <= 12


@pytest.mark.slow
def test_the_ratios_are_of_what_is_shown(result):
    ours, peers = result["ours"], result["peers"]
    mine = ours["variants"]["ours-float32-b4"]
    assert result["pairs"] == 3
    assert ours["pairs_per_second_natural"] == mine["natural"]["pairs_per_second"]
    assert ours["peak_rss_bytes"] > 1e8
    for key, mode, peer in (
        ("ratio_vs_best_peer", "fixed", result["best_peer"]),
        ("ratio_vs_best_peer_natural", "natural", result["best_peer_natural"]),
        ("ratio_vs_release_settings", "sampled", "release-float32-b8"),
    ):
        other = peers[peer][mode]
        expected = mine[mode]["pairs_per_second"] / other["pairs_per_second"]
        assert result[key] == pytest.approx(expected)
    held = [
        peers[name][mode]["models_in_memory"]
        for name, mode in (
            ("hf-float32-b2", "fixed"),
            ("hf_mixed-float32-b2", "fixed"),
            ("release-float32-b8", "sampled"),
        )
    ]
    assert held == ["one at a time", "one base, adapter apart", "both"]
    assert peers["hf-float32-b2"]["fixed"]["adapter"] == "merged"
    assert {"jax", "torch", "transformers", "peft", "python"} <= set(result["versions"])


def test_an_absent_library_of_the_peer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        RuntimeError, match="comparison with Hugging Face needs peft, not installed here"
    ):
        main(["generate"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ("--prompts 4", ValueError, "--peer-batches 32 is more than 4 --prompts"),
        ("--prompts 9999", ValueError, "--prompts 9999: there are only 320"),
        ("--natural-limit 900", ValueError, "do not fit the context of 1024"),
        ("--run nowhere", FileNotFoundError, "--run nowhere: it has no config.yaml"),
        ("--run x --model y", ValueError, "--model: not allowed with --run"),
        ("--peers hf vllm", RuntimeError, "--make-peer vllm"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no peer has an environment there
    given = arguments.split()
    model = [] if "--run" in given else ["--model", str(tiny_model)]
    with pytest.raises(error, match=message):
        main(["generate", *given, *model])
