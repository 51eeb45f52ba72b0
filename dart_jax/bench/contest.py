"""Variants of both sides in turn, and the numbers and the table that compare them.

Each side with a choice is tuned in one short round of every variant; its fastest variants then run
whole rounds, one working while the others sleep.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import jax

from dart_jax.bench import hf_generate, hf_train, ours
from dart_jax.bench.foreign import session as foreign
from dart_jax.bench.jobs import DecodeJob, Round, TrainJob, Variant
from dart_jax.bench.options import ForeignPeer
from dart_jax.bench.worker import Worker, WorkerDied
from dart_jax.extras import need
from dart_jax.machine import machine, versions
from dart_jax.report.document import Column, Table
from dart_jax.report.to_text import aligned

# Tuning is short: variants this near to the fastest one run the whole rounds, too (two at most).
NEAR = 0.9
# What a measurement against Hugging Face depends on.
OURS = ("jax", "jaxlib", "flax", "optax", "numpy")
PEER = ("torch", "transformers", "peft")

Job = TrainJob | DecodeJob
Entry = dict[str, Any]
"""The numbers of one variant, as `--out` has them."""

say = partial(print, flush=True)


def against_peer(measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Measure in a temporary folder; the result, with the machine and the versions.

    Raises:
        MissingExtra: A library of the peer is not installed.
        RuntimeError: The sides do not do the same job, or a worker died (WorkerDied).
    """
    need("bench", PEER, "a comparison with Hugging Face")
    jax.config.update("jax_platforms", "cpu")  # this process prepares; devices are the workers'
    where = {"machine": machine(), "versions": versions([*OURS, *PEER])}
    with tempfile.TemporaryDirectory(prefix="dart_jax_bench_") as folder:
        return measure(Path(folder)) | where


def start(job: Job, variant: Variant, folder: Path) -> Worker:
    """A worker with the session of a job and a framework."""
    is_ours = variant.framework == "ours"
    if isinstance(job, TrainJob):
        session = ours.Training if is_ours else hf_train.Training
    elif variant.framework in get_args(ForeignPeer):
        session = foreign.Decoding
    else:
        session = ours.Decoding if is_ours else hf_generate.Decoding
    return Worker(session, job, variant, folder)


Measured = tuple[Variant, list[Round], dict[str, Any]]
"""A variant, its rounds, and the facts of its session."""


def alternate(job: Job, variants: Sequence[Variant], rounds: int, folder: Path) -> list[Measured]:
    """Rounds in turn: the first of each variant, the second of each, ...; the others sleep."""
    measured: list[Measured] = []
    with ExitStack() as stack:
        workers = []
        for variant in variants:
            started = time.perf_counter()
            worker = stack.enter_context(start(job, variant, folder))
            facts = worker.facts() | {"setup_seconds": time.perf_counter() - started}
            workers.append(worker)
            measured.append((variant, [], facts))

        for epoch in range(rounds):
            for worker, (variant, done, _) in zip(workers, measured, strict=True):
                one = worker.round(epoch)
                done.append(one)
                rate = f"{job.amount / one.seconds:.3f} {job.rate.replace('_', ' ')}"
                say(f"  round {epoch + 1}, {variant.name}: {one.seconds:.1f} s, {rate}")
    return measured


def tune(
    job: Job, variants: Sequence[Variant], folder: Path, failed: dict[str, str]
) -> list[Entry]:
    """One round of each variant, one after the other, each alone on the machine.

    Args:
        failed: Gets the reason by name where a variant does not work, such as one that needs more
            memory than there is; it takes no part, and is reported.
    """
    entries = []
    for variant in variants:
        try:
            [measured] = alternate(job, [variant], 1, folder)
        except WorkerDied as error:
            failed[variant.name] = str(error)
            say(f"  {variant.name}: failed; {error}")
        else:
            entries.append(summarise(job, measured) | {"stage": "tuning"})
    return entries


@dataclass
class Contest:
    """Entries of the variants of both sides by name, and why others failed."""

    ours: dict[str, Entry] = field(default_factory=dict)
    peers: dict[str, Entry] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def contest(
    job: Job,
    ours: Sequence[Variant],
    peers: Sequence[Variant],
    rounds: int,
    folder: Path,
    *,
    tuning: Job | None = None,
    tuned_share: Callable[[Variant], float] = lambda _: 1.0,
    refine: Callable[[Variant], Sequence[Variant]] | None = None,
    large: bool = False,
) -> Contest:
    """Tune, then alternate.

    Args:
        peers: May be empty: then nothing is compared.
        tuning: The job of a tuning round; `job` itself by default.
        tuned_share: The rate of a variant in the whole job, as a share of that in its tuning.
        refine: Makes more variants of the fastest of `peers`, to be tuned after them.
        large: Two variants do not fit the device: they run one after the other instead of in
            turns. Ours are tuned like the peer's; otherwise all of ours run the whole rounds.

    Raises:
        WorkerDied: Not one variant of a side that is tuned worked.
    """
    found = Contest()
    by_name: dict[str, Variant] = {}

    def tuned(variants: Sequence[Variant], entries: dict[str, Entry]) -> list[Variant]:
        """The fastest of these and of those tuned before."""
        say(f"tuning {variants[0].framework}: {len(variants)} variants")
        by_name.update({variant.name: variant for variant in variants})
        for entry in tune(tuning or job, variants, folder, found.failed):
            entry[job.rate] *= tuned_share(by_name[entry["variant"]])
            entries[entry["variant"]] = entry
        if not entries:
            raise WorkerDied("\n".join(found.failed.values()))
        names = finalists({name: entry[job.rate] for name, entry in entries.items()})
        return [by_name[name] for name in names]

    mine = tuned(ours, found.ours) if large and len(ours) > 1 else ours
    theirs = peers
    if peers and (refine or len(peers) > 1):
        theirs = tuned(peers, found.peers)
        if refine and (more := refine(theirs[0])):
            theirs = tuned(more, found.peers)

    finals = [*mine, *theirs]
    say(f"{rounds} rounds of {job.amount} {job.rate.partition('_')[0]}")
    for group in [[variant] for variant in finals] if large else [finals]:
        for measured in alternate(job, group, rounds, folder):
            side = found.ours if measured[0] in ours else found.peers
            side[measured[0].name] = summarise(job, measured)
    return found


def finalists(rates: Mapping[str, float]) -> list[str]:
    """Names of the fastest variant, and of the second where it is near."""
    ranked = sorted(rates, key=rates.__getitem__, reverse=True)
    return [name for name in ranked[:2] if rates[name] >= NEAR * rates[ranked[0]]]


def summarise(job: Job, measured: Measured) -> Entry:
    """The numbers of a variant; rates are medians over its rounds, memory is the largest.

    Raises:
        RuntimeError: The rounds did not do the job, see `numbers` of the job.
    """
    variant, rounds, facts = measured
    rates = [job.amount / one.seconds for one in rounds]
    device_bytes = [one.peak_device_bytes for one in rounds if one.peak_device_bytes]
    return {
        "variant": variant.name,
        "dtype": variant.dtype,
        "stage": "rounds",
        job.rate: median(rates),
        f"{job.rate}_min": min(rates),
        f"{job.rate}_max": max(rates),
        **job.numbers(variant, rounds),
        "peak_rss_bytes": max(one.peak_rss_bytes for one in rounds),
        "peak_device_bytes": max(device_bytes, default=None),
        "round_seconds": [one.seconds for one in rounds],
        **facts,
    }


def best(entries: Mapping[str, Entry], rate: str) -> Entry:
    """The fastest of those that ran the whole rounds; empty of none."""
    whole = [entry for entry in entries.values() if entry["stage"] == "rounds"]
    return max(whole, key=lambda entry: entry[rate], default={})


def compare(done: Contest, rate: str) -> dict[str, float]:
    """Speed and memory of the best of either side; a memory ratio below 1 is less than the peer.

    Memory is the accelerator's where both used one.
    """
    ours, peer = best(done.ours, rate), best(done.peers, rate)
    device = ours["peak_device_bytes"] and peer["peak_device_bytes"]
    memory = "peak_device_bytes" if device else "peak_rss_bytes"
    pairs = zip(ours["round_seconds"], peer["round_seconds"], strict=True)
    by_round = [theirs / mine for mine, theirs in pairs]
    return {
        "ratio_vs_best_peer": ours[rate] / peer[rate],
        "ratio_min": min(by_round),
        "ratio_max": max(by_round),
        "memory_ratio": ours[memory] / peer[memory],
    }


def table(done: Contest, rate: str, columns: Sequence[Column]) -> str:
    """Every variant, the fastest first: its rate, these columns, its memory; the best compared."""
    rows = []
    entries = [*done.ours.values(), *done.peers.values()]
    for entry in sorted(entries, key=lambda entry: -entry[rate]):
        spread = f"{entry[f'{rate}_min']:.3f} - {entry[f'{rate}_max']:.3f}"
        memory = (entry["peak_device_bytes"] or entry["peak_rss_bytes"]) / 1e9
        in_rounds = entry["stage"] == "rounds"
        rows.append(entry | {"spread": spread if in_rounds else "tuning only", "memory": memory})
    before = (
        Column("variant", "variant"),
        Column(rate, rate.replace("_per_second", "/s"), "number"),
        Column("spread", "min - max"),
    )
    shown = (*before, *columns, Column("memory", "memory GB", "number"))
    lines = [aligned(Table("variants", "", shown, rows))]
    if done.peers:
        ratios = compare(done, rate)
        lines.append(
            f"{best(done.ours, rate)['variant']} against {best(done.peers, rate)['variant']}: "
            f"{ratios['ratio_vs_best_peer']:.2f} times as fast "
            f"({ratios['ratio_min']:.2f} - {ratios['ratio_max']:.2f} by round), "
            f"{ratios['memory_ratio']:.2f} times the memory"
        )
    return "\n".join(lines)
