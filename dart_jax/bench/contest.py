"""From a job and the variants of both sides to the numbers that compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dart_jax.bench.job import Job, Variant, write_job
from dart_jax.bench.prepare import tune_job
from dart_jax.bench.rounds import Measured, alternate, tune
from dart_jax.bench.summary import compare, finalists, summarise, tuned_rate

say = partial(print, flush=True)


def contest(
    job: Job,
    ours: Sequence[Variant],
    peers: Sequence[Variant],
    tune_examples: int,
    folder: Path,
    large: bool = False,
) -> dict[str, Any]:
    """Tune, alternate, compare.

    Args:
        peers: May be empty: then nothing is compared.
        tune_examples: In a tuning round.
        large: Two variants do not fit the device: they run one after the other instead of in
            turns. Ours are tuned like the peer's; otherwise all of ours run the whole rounds.
    """
    few = tune_job(job, tune_examples)
    finals, tuned, failed = _choose(job, few, peers, folder)
    if large:
        ours, tuned_ours, failed_ours = _choose(job, few, ours, folder)
        tuned, failed = [*tuned, *tuned_ours], failed | failed_ours
    path = folder / "job.json"
    write_job(job, path)
    say(f"{job.sft.epochs} rounds of {len(job.examples)} examples")
    everyone = [*ours, *finals]
    groups = [[variant] for variant in everyone] if large else [everyone]
    found = [one for group in groups for one in alternate(path, group, job.sft.epochs, folder, say)]
    return {
        "examples": len(job.examples),
        "rounds": job.sft.epochs,
        "examples_per_step": job.sft.batch_size,
        **_both_sides(job, tuned, found),
        "failed": failed,
    }


def _choose(
    job: Job, few: Job, variants: Sequence[Variant], folder: Path
) -> tuple[Sequence[Variant], list[Measured], dict[str, str]]:
    """Who runs the whole rounds, what tuning measured, and which variants failed and why."""
    if len(variants) <= 1:
        return variants, [], {}
    framework, count = variants[0].framework, len(few.examples)
    say(f"tuning {framework}: {len(variants)} variants on {count} examples")
    tuned, failed = tune(few, variants, folder, say)
    names = finalists({one.variant.name: tuned_rate(one, job) for one in tuned})
    return [one.variant for one in tuned if one.variant.name in names], tuned, failed


def _both_sides(job: Job, tuned: Sequence[Measured], found: Sequence[Measured]) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = {"ours": {}, "hf": {}}
    for one in tuned:
        rate = {"stage": "tuning", "examples_per_second": tuned_rate(one, job)}
        entries[one.variant.framework][one.variant.name] = summarise(one) | rate
    for one in found:
        entries[one.variant.framework][one.variant.name] = summarise(one) | {"stage": "rounds"}
    ours, peers = _best(entries["ours"]), _best(entries["hf"])
    sides = {"ours": {**ours, "variants": entries["ours"]}, "peers": entries["hf"]}
    if not peers:
        return sides
    return {**sides, "best_peer": peers["variant"], **compare(ours, peers)}


def _best(entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest over the whole rounds; empty of none."""
    whole = [entry for entry in entries.values() if entry["stage"] == "rounds"]
    return max(whole, key=lambda entry: entry["examples_per_second"], default={})
