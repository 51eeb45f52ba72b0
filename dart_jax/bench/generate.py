"""Decoding speed and memory for pairs of models against Hugging Face generate, in one run.

The same prompts for M0 and one adapter: ours in one call, the peer's in two passes. Every variant
works in a process of its own, and they take turns. First a check that both sides decode the same
tokens; then a fixed number of new tokens, so that both do the same work; then natural stops; then
the release's settings (float32, batch 8, two models in memory, sampling) against ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import say
from dart_jax.bench.generate_job import GenerateJob, GenerateVariant
from dart_jax.bench.generate_summary import (
    PAIRS,
    TITLES,
    Entry,
    compare_modes,
    pairs_table,
    same_tokens,
    summarise_pairs,
)
from dart_jax.bench.job import write_job
from dart_jax.bench.peer import PACKAGES, positive, require_peer
from dart_jax.bench.rounds import Measured, alternate, tune, untimed
from dart_jax.bench.summary import finalists
from dart_jax.machine import OURS, machine, versions

CHECKED_PROMPTS, CHECKED_TOKENS = 4, 16
RELEASE = GenerateVariant("release", "float32", 8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m dart_jax.bench generate`."""
    add = parser.add_argument
    types = ["float32", "bfloat16"]
    add("--peer", choices=["hf"], default="hf", help="hf: transformers' generate, PEFT merged")
    add("--prompts", type=positive, default=32, metavar="N", help="pairs (default 32)")
    add("--new-tokens", type=positive, default=64, metavar="K", help="fixed number (default 64)")
    add("--natural-limit", type=positive, default=256, help="with natural stops (default 256)")
    add("--rounds", type=positive, default=3, help="timed rounds of each side (default 3)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--run", type=Path, help="a run's folder: its base, M_DART and questions, test ones first"
    )
    source.add_argument(
        "--model", help="as model.path, with the mini suite and a random adapter; without --run"
    )
    add("--ours-dtype", nargs="+", choices=types, default=types, help="that we try")
    add("--peer-dtype", nargs="+", choices=types, default=types, help="that the peer tries")
    add(
        "--slots",
        nargs="+",
        type=positive,
        default=[64],
        metavar="N",
        help="rows that we decode together, of both models (default 64)",
    )
    add(
        "--peer-batches",
        nargs="+",
        type=positive,
        default=[8, 16, 32],
        metavar="N",
        help="batch sizes that the peer is tuned over (default 8 16 32)",
    )
    add("--seed", type=int, default=0, help="of the noise and the random adapter (default 0)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return what `--out` holds.

    Raises:
        RuntimeError: A library of the peer is missing, the sides do not decode the same, or a
            worker died (WorkerDied).
        ValueError: Settings that do not fit each other.
        FileNotFoundError: `--run` is no run.
    """
    require_peer()
    if max(args.peer_batches) > args.prompts:
        raise ValueError(
            f"--peer-batches {max(args.peer_batches)} is more than --prompts {args.prompts}: "
            "there would be no full batch to time"
        )
    # This process only prepares; the devices are the workers'.
    import jax

    jax.config.update("jax_platforms", "cpu")
    from dart_jax.bench.generate_prepare import prepare_pairs

    where = {"machine": machine(), "versions": versions([*OURS, *PACKAGES])}
    with tempfile.TemporaryDirectory(prefix="dart_jax_bench_") as name:
        folder = Path(name)
        result = pairs_contest(args, prepare_pairs(args, folder), folder)
    print("\n" + pairs_table(result))
    return result | where


def pairs_contest(args: argparse.Namespace, job: GenerateJob, folder: Path) -> dict[str, Any]:
    """Check, then measure under each rule of stopping."""
    say(f"checking that both sides decode the same tokens, on {CHECKED_PROMPTS} prompts")
    agreed = check(job, folder)
    jobs = {
        "fixed": job,
        "natural": dataclasses.replace(job, new_tokens=args.natural_limit, natural_stops=True),
        "sampled": dataclasses.replace(job, temperature=0.2, top_p=0.9),
    }
    ours = [GenerateVariant("ours", d, n) for d in args.ours_dtype for n in args.slots]
    peers = [GenerateVariant("hf", d, n) for d in args.peer_dtype for n in args.peer_batches]
    modes, failed = {}, {}
    for mode, one in jobs.items():
        opponents = [RELEASE] if mode == "sampled" else peers
        modes[mode], failed[mode] = measure(mode, one, ours, opponents, args.rounds, folder)
    lengths = [len(prompt.tokens) for prompt in job.prompts]
    return {
        "pairs": len(job.prompts),
        "prompt_tokens": {"mean": sum(lengths) / len(lengths), "max": max(lengths)},
        "new_tokens": args.new_tokens,
        "natural_limit": args.natural_limit,
        "adapter": "M_DART of a run" if args.run else "random",
        "rounds": args.rounds,
        "same_tokens": agreed,
        **compare_modes(modes),
        "failed": failed,
    }


def check(job: GenerateJob, folder: Path) -> dict[str, int]:
    """Greedy float32 answers of both sides to a few prompts; see `same_tokens`."""
    few = job.prompts[:CHECKED_PROMPTS]
    small = dataclasses.replace(job, prompts=few, new_tokens=CHECKED_TOKENS)
    sides = [
        GenerateVariant("ours", "float32", 2 * len(few)),
        GenerateVariant("hf", "float32", len(few)),
    ]
    [ours], [theirs] = untimed(small, sides, 1, folder)
    return same_tokens(small, ours, theirs)


def measure(
    mode: str,
    job: GenerateJob,
    ours: Sequence[GenerateVariant],
    peers: Sequence[GenerateVariant],
    rounds: int,
    folder: Path,
) -> tuple[dict[str, list[Entry]], dict[str, str]]:
    """Tune the peer where it has a choice, then alternate.

    Returns:
        The entries of `ours` and `peers`, and by name the reason why a variant failed.
    """
    entries: dict[str, Entry] = {}

    def keep(found: Sequence[Measured], stage: str) -> None:
        entries.update(
            {one.variant.name: summarise_pairs(job, one) | {"stage": stage} for one in found}
        )

    failed: dict[str, str] = {}
    say(f"{TITLES[mode]}: {len(job.prompts)} pairs")
    if len(peers) > 1:
        tuned, failed = tune(job, peers, folder, say)
        keep(tuned, "tuning")
        chosen = finalists({name: entry[PAIRS] for name, entry in entries.items()})
        peers = [variant for variant in peers if variant.name in chosen]
    path = folder / f"{mode}.json"
    write_job(job, path)
    keep(alternate(path, [*ours, *peers], rounds, folder, say), "rounds")
    names = {variant.name for variant in ours}
    sides = {
        "ours": [entry for name, entry in entries.items() if name in names],
        "peers": [entry for name, entry in entries.items() if name not in names],
    }
    return sides, failed
