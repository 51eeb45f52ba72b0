"""Decoding pairs of models, M0 and one adapter, against Hugging Face generate and other engines.

First a check that all decode the same tokens; then a fixed number of new tokens, so that all do
the same work; then natural stops; then the release's settings (float32, batch 8, two models in
memory, sampling) against ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

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
from dart_jax.bench.foreign import environments
from dart_jax.bench.jobs import ADAPTED, BASE, Answers, DecodeJob, Variant
from dart_jax.bench.options import GenerateOptions, HfPeer, Mode, Peer
from dart_jax.bench.prepare import decode_job
from dart_jax.bench.worker import WorkerDied
from dart_jax.report.document import Column
from dart_jax.settings import BadSetting

CHECKED_PROMPTS, CHECKED_TOKENS = 4, 16
RATE = DecodeJob.rate
COLUMNS = (
    Column("new_tokens_per_second", "new tok/s", "number"),
    Column("new_tokens_per_answer", "per answer", "number"),
)
SUFFIXES = {"fixed": "", "natural": "_natural"}
RELEASE_KEYS = {
    "ratio_vs_best_peer": "ratio_vs_release_settings",
    "ratio_min": "ratio_vs_release_settings_min",
    "ratio_max": "ratio_vs_release_settings_max",
    "memory_ratio": "memory_ratio_vs_release_settings",
}
TITLES = {
    "fixed": "fixed number of new tokens",
    "natural": "natural stops",
    "sampled": "fixed number, temperature 0.2, top-p 0.9",
}


def run(options: GenerateOptions) -> dict[str, Any]:
    """Measure, print tables, and return what `--out` holds; or make the environment of a peer.

    Raises:
        RuntimeError: See `against_peer`; or an environment is missing or could not be made.
        ValueError: Settings that do not fit each other.
        FileNotFoundError: `--run` is no run.
    """
    if options.make_peer:
        folder = environments.make(options.make_peer)
        say(f"{options.make_peer}: its environment is {folder}")
        return {"made": options.make_peer}
    if options.run and options.model:
        raise BadSetting("--model: not allowed with --run, which names its model")
    few = min(options.prompts, options.tune_prompts)
    if max(options.peer_batches) > few:
        raise ValueError(
            f"--peer-batches {max(options.peer_batches)} is more than {few} --prompts or "
            "--tune-prompts: there would be no full batch to time"
        )
    for peer in options.peers or ():
        if peer in environments.RECIPES:
            environments.python_of(peer)  # raises where there is none
    return against_peer(partial(_measure, options))


def _measure(options: GenerateOptions, folder: Path) -> dict[str, Any]:
    """Check, then measure under each rule of stopping."""
    job = decode_job(options, folder)
    failed: dict[str, str] = {}
    wanted = options.peers or (*get_args(HfPeer), *environments.installed())
    checked = check_tokens(job, wanted, folder, failed)

    jobs = {
        "fixed": job,
        "natural": replace(job, new_tokens=options.natural_limit, natural_stops=True),
        "sampled": replace(job, temperature=0.2, top_p=0.9),
    }
    mine = [Variant("ours", dtype, n) for dtype in options.ours_dtype for n in options.slots]
    peers = peer_variants(options, list(checked["peers"]))
    release = [Variant("release", "float32", 8)]
    modes = {}
    for mode in options.modes:
        say(f"\n{TITLES[mode]}")
        opponents = release if mode == "sampled" else peers
        modes[mode] = contest(
            jobs[mode],
            mine,
            opponents,
            options.rounds,
            folder,
            tuning=first_prompts(jobs[mode], options.tune_prompts),
        )
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
        "failed": {"check": failed} | {mode: done.failed for mode, done in modes.items()},
    }


def first_prompts(job: DecodeJob, count: int) -> DecodeJob:
    """The same job on so many prompts."""
    return replace(job, prompts=dict(list(job.prompts.items())[:count]))


def peer_variants(options: GenerateOptions, peers: Sequence[Peer]) -> list[Variant]:
    """Every peer in its types; vLLM has our slots, the others the peer's batch sizes."""
    variants = []
    for peer in peers:
        recipe = environments.RECIPES.get(peer)
        # A peer with one type takes part whatever the others try.
        dtypes = recipe.dtypes if recipe and len(recipe.dtypes) == 1 else options.peer_dtype
        rows = options.slots if peer == "vllm" else options.peer_batches
        variants += [Variant(peer, dtype, n) for dtype in dtypes for n in rows]
    return variants


def check_tokens(
    job: DecodeJob, peers: Sequence[Peer], folder: Path, failed: dict[str, str]
) -> dict[str, Any]:
    """Compare every peer's answers to a few prompts with ours, in float32 with natural stops.

    Args:
        failed: Gets the reason where a peer does not run at all here; it takes no part.

    Raises:
        RuntimeError: Answers differ, or no peer runs (WorkerDied).
    """
    say(f"checking that all decode the same tokens, on {CHECKED_PROMPTS} prompts")
    small = replace(
        first_prompts(job, CHECKED_PROMPTS), new_tokens=CHECKED_TOKENS, natural_stops=True
    )

    def answers(variant: Variant) -> Answers:
        [(_, [one], _)] = alternate(small, [variant], 1, folder)
        return one.result

    ours, compared = answers(Variant("ours", "float32", 2 * small.amount)), {}
    for peer in peers:
        try:
            theirs = answers(Variant(peer, "float32", small.amount))
        except WorkerDied as error:
            failed[peer] = str(error)
            say(f"  {peer}: failed; {error}")
            continue
        compared[peer] = same_tokens(small, ours, theirs, peer)
    if not compared:
        raise WorkerDied("\n".join(failed.values()))
    return {"peers": compared}


def same_tokens(job: DecodeJob, ours: Answers, theirs: Answers, peer: str) -> dict[str, int]:
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
                        f"{peer} does not decode the same: {model}, {prompt}, new token {index} "
                        f"is {a} in ours and {b} there (greedy, float32)"
                    )
    if ours.tokens[BASE] == ours.tokens[ADAPTED]:
        raise RuntimeError(
            "the adapter's answers are the base model's: the check cannot see whether both sides "
            "apply it; give --run a run whose adapter was trained"
        )
    return {"prompts": job.amount, "answers": 2 * job.amount, "tokens": ours.new_tokens}


def compare_modes(modes: Mapping[Mode, Contest]) -> dict[str, Any]:
    """Compare the contests by rule of stopping, for `--out`.

    Returns:
        `ours`: its fastest variant for each rule, and all its variants. `peers`: every variant's
        entries by rule. `best_peer` and the ratios: of the fastest of either side.
    """
    mine: dict[str, Any] = {"peak_rss_bytes": 0}
    sides: dict[str, dict[str, dict[str, Entry]]] = {"ours": {}, "peers": {}}
    compared: dict[str, Any] = {}
    for mode, done in modes.items():
        for side, entries in (("ours", done.ours), ("peers", done.peers)):
            for name, entry in entries.items():
                sides[side].setdefault(name, {})[mode] = entry

        ratios = compare(done, RATE)
        if mode == "sampled":
            for key, name in RELEASE_KEYS.items():
                compared[name] = ratios[key]
            continue
        suffix, fastest = SUFFIXES[mode], best(done.ours, RATE)
        for key in ("variant", RATE, "new_tokens_per_second"):
            mine[f"{key}{suffix}"] = fastest[key]
        mine["peak_rss_bytes"] = max(mine["peak_rss_bytes"], fastest["peak_rss_bytes"])
        compared[f"best_peer{suffix}"] = best(done.peers, RATE)["variant"]
        compared |= {f"{key}{suffix}": value for key, value in ratios.items()}
    return {"ours": {**mine, "variants": sides["ours"]}, "peers": sides["peers"], **compared}
