"""Decoding pairs of models, M0 and one adapter, against Hugging Face generate.

Ours answers in one call, the peer in two passes. First a check that both sides decode the same
tokens; then a fixed number of new tokens, so that both do the same work; then natural stops; then
the release's settings (float32, batch 8, two models in memory, sampling) against ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import (
    Contest,
    Entry,
    against_peer,
    alternate,
    best,
    compare,
    contest,
    say,
    table,
)
from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Variant
from dart_jax.bench.options import GenerateOptions
from dart_jax.bench.prepare import decode_job
from dart_jax.report.document import Column
from dart_jax.settings import BadSetting

CHECKED_PROMPTS, CHECKED_TOKENS = 4, 16
RATE = DecodeJob.rate
COLUMNS = (
    Column("new_tokens_per_second", "new tok/s", "number"),
    Column("new_tokens_per_answer", "per answer", "number"),
)
TITLES = {
    "fixed": "fixed number of new tokens",
    "natural": "natural stops",
    "sampled": "fixed number, temperature 0.2, top-p 0.9",
}


def run(options: GenerateOptions) -> dict[str, Any]:
    """Measure, print tables, and return what `--out` holds.

    Raises:
        RuntimeError: See `against_peer`.
        ValueError: Settings that do not fit each other.
        FileNotFoundError: `--run` is no run.
    """
    if options.run and options.model:
        raise BadSetting("--model: not allowed with --run, which names its model")
    if max(options.peer_batches) > options.prompts:
        raise ValueError(
            f"--peer-batches {max(options.peer_batches)} is more than --prompts {options.prompts}: "
            "there would be no full batch to time"
        )
    return against_peer(partial(_measure, options))


def _measure(options: GenerateOptions, folder: Path) -> dict[str, Any]:
    """Check, then measure under each rule of stopping."""
    job = decode_job(options, folder)
    say(f"checking that both sides decode the same tokens, on {CHECKED_PROMPTS} prompts")
    few = dict(list(job.prompts.items())[:CHECKED_PROMPTS])
    small = replace(job, prompts=few, new_tokens=CHECKED_TOKENS)
    sides = [Variant("ours", "float32", 2 * len(few)), Variant("hf", "float32", len(few))]
    (_, [ours], _), (_, [theirs], _) = alternate(small, sides, 1, folder)
    checked = same_tokens(small, ours.result, theirs.result)

    jobs = {
        "fixed": job,
        "natural": replace(job, new_tokens=options.natural_limit, natural_stops=True),
        "sampled": replace(job, temperature=0.2, top_p=0.9),
    }
    mine = [Variant("ours", dtype, n) for dtype in options.ours_dtype for n in options.slots]
    peers = [Variant("hf", dtype, n) for dtype in options.peer_dtype for n in options.peer_batches]
    release = [Variant("release", "float32", 8)]
    modes = {}
    for mode, one in jobs.items():
        say(f"\n{TITLES[mode]}")
        opponents = release if mode == "sampled" else peers
        modes[mode] = contest(one, mine, opponents, options.rounds, folder)
        say("\n" + table(modes[mode], RATE, COLUMNS))
    lengths = [len(tokens) for tokens in job.prompts.values()]
    return {
        "pairs": job.amount,
        "prompt_tokens": {"mean": sum(lengths) / len(lengths), "max": max(lengths)},
        "new_tokens": options.new_tokens,
        "natural_limit": options.natural_limit,
        "adapter": "M_DART of a run" if options.run else "random",
        "rounds": options.rounds,
        "same_tokens": checked,
        **compare_modes(modes),
        "failed": {mode: done.failed for mode, done in modes.items()},
    }


def same_tokens(job: DecodeJob, ours: Answers, theirs: Answers) -> dict[str, int]:
    """Compare both sides' answers to a small greedy job token by token; how many there were.

    Raises:
        RuntimeError: They differ, or the adapter changes nothing: then the sides would not do
            the same job, or nobody could see whether they do.
    """
    for model in (BASE, ADAPTED):
        rows = zip(job.prompts, ours.tokens[model], theirs.tokens[model], strict=True)
        for prompt, mine, other in rows:
            for index, (a, b) in enumerate(zip_longest(mine, other)):
                if a != b:
                    raise RuntimeError(
                        f"the sides do not decode the same: {model}, {prompt}, new token {index} "
                        f"is {a} in ours and {b} in the peer's (greedy, float32)"
                    )
    if ours.tokens[BASE] == ours.tokens[ADAPTED]:
        raise RuntimeError(
            "the adapter's answers are the base model's: the check cannot see whether both sides "
            "apply it; give --run a run whose adapter was trained"
        )
    return {"prompts": job.amount, "answers": 2 * job.amount, "tokens": ours.new_tokens}


def compare_modes(modes: Mapping[str, Contest]) -> dict[str, Any]:
    """Compare the contests by rule of stopping (fixed, natural, sampled), for `--out`.

    Returns:
        `ours`: its fastest variant for each rule, and all its variants. `peers`: every variant's
        entries by rule. `best_peer` and the ratios: of the fastest of either side.
    """
    fixed, natural = best(modes["fixed"].ours, RATE), best(modes["natural"].ours, RATE)
    mine: dict[str, Any] = {}
    for suffix, entry in (("", fixed), ("_natural", natural)):
        for key in ("variant", RATE, "new_tokens_per_second"):
            mine[f"{key}{suffix}"] = entry[key]
    mine["peak_rss_bytes"] = max(fixed["peak_rss_bytes"], natural["peak_rss_bytes"])
    sides: dict[str, dict[str, dict[str, Entry]]] = {"ours": {}, "peers": {}}
    ratios = {}
    for mode, done in modes.items():
        ratios[mode] = compare(done, RATE)
        for side, entries in (("ours", done.ours), ("peers", done.peers)):
            for name, entry in entries.items():
                sides[side].setdefault(name, {})[mode] = entry
    return {
        "ours": {**mine, "variants": sides["ours"]},
        "peers": sides["peers"],
        "best_peer": best(modes["fixed"].peers, RATE)["variant"],
        "best_peer_natural": best(modes["natural"].peers, RATE)["variant"],
        **ratios["fixed"],
        **{f"{key}_natural": value for key, value in ratios["natural"].items()},
        "ratio_vs_release_settings": ratios["sampled"]["ratio_vs_best_peer"],
        "ratio_vs_release_settings_min": ratios["sampled"]["ratio_min"],
        "ratio_vs_release_settings_max": ratios["sampled"]["ratio_max"],
        "memory_ratio_vs_release_settings": ratios["sampled"]["memory_ratio"],
    }
