"""Training against Hugging Face PEFT on the same job.

First a check that both sides compute the same losses; then the peer's variants are tuned on a few
examples, types and batch sizes before the other ways to train; its best and ours take turns at
whole epochs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import (
    Contest,
    against_peer,
    best,
    compare,
    contest,
    say,
    table,
)
from dart_jax.bench.equal_losses import check_losses
from dart_jax.bench.jobs import TrainJob, Variant
from dart_jax.bench.options import PeerKind, TrainOptions
from dart_jax.bench.peer_batches import epoch_positions
from dart_jax.bench.prepare import random_job, train_job, tune_job
from dart_jax.model.config import LoraConfig
from dart_jax.model.presets import PRESETS
from dart_jax.report.document import Column

RATE = TrainJob.rate
COLUMNS = (
    Column("real_tokens_per_second", "real tok/s", "number"),
    Column("padded_tokens_per_second", "computed tok/s", "number"),
    Column("last_loss", "last loss", "number"),
)


def run(options: TrainOptions) -> dict[str, Any]:
    """Measure, print a table, and return what `--out` holds.

    Raises:
        RuntimeError: See `against_peer`; or a loss is no number.
        ValueError: Settings that do not fit each other.
    """
    return against_peer(partial(_shape if options.shape else _suite, options))


def _suite(options: TrainOptions, folder: Path) -> dict[str, Any]:
    """Examples of a suite, on the model that `--model` names."""
    for size in options.peer_batches:
        if options.batch_size % size:
            raise ValueError(f"--peer-batches {size} does not divide --batch-size")
        if size > min(options.examples, options.tune_examples):
            raise ValueError(
                f"--peer-batches {size} is more than --examples or --tune-examples: "
                "there would be no full micro-batch to time"
            )
    job = train_job(options, folder)
    failed: dict[str, str] = {}
    check = check_losses(job, options.packing, options.peer_kinds, folder, failed)
    kinds = list(check["peers"])
    first = "supervised" if "supervised" in kinds else kinds[0]

    mine, peers = [], []
    for dtype in options.ours_dtype:
        mine += [Variant("ours", dtype, packing=packing) for packing in options.packing]
    for dtype in options.peer_dtype:
        peers += [Variant("hf", dtype, size, kind=first) for size in options.peer_batches]
    refine = partial(other_kinds, kinds)
    result = measure(job, mine, peers, options.tune_examples, folder, refine=refine)
    return {"same_losses": check} | result | {"failed": failed | result["failed"]}


def other_kinds(kinds: Sequence[PeerKind], fastest: Variant) -> list[Variant]:
    """The fastest type and batch size of the peer, trained in all other ways."""
    # In float32 the adapters have the type of the base in any case.
    same = {fastest.kind, "adapter"} if fastest.dtype == "float32" else {fastest.kind}
    return [replace(fastest, kind=kind) for kind in kinds if kind not in same]


def measure(
    job: TrainJob,
    ours: Sequence[Variant],
    peers: Sequence[Variant],
    tune_examples: int,
    folder: Path,
    *,
    refine: Callable[[Variant], Sequence[Variant]] | None = None,
    large: bool = False,
) -> dict[str, Any]:
    """The contest of both sides, as `--out` has it; see `contest` for `refine` and `large`."""
    few, rounds = tune_job(job, tune_examples), job.sft.epochs

    def tuned_share(variant: Variant) -> float:
        """Few examples of the peer pad more than many: its rate is that of the positions."""
        if variant.framework == "ours":
            return 1.0
        in_tuning = epoch_positions(few, variant) / few.amount
        return in_tuning / (epoch_positions(job, variant) / job.amount)

    done = contest(
        job,
        ours,
        peers,
        rounds,
        folder,
        tuning=few,
        tuned_share=tuned_share,
        refine=refine,
        large=large,
    )
    say("\n" + table(done, RATE, COLUMNS))
    compared: dict[str, Any] = {}
    if done.peers:
        by_packing = ratios_by_packing(done)
        for packing, ratios in by_packing.items():
            say(f"{packing}: {ratios['ratio_vs_best_peer']:.2f} times as fast as the best peer")
        compared = {
            "best_peer": best(done.peers, RATE)["variant"],
            **compare(done, RATE),
            "by_packing": by_packing,
        }
    return {
        "examples": job.amount,
        "rounds": rounds,
        "examples_per_step": job.sft.batch_size,
        "ours": {**best(done.ours, RATE), "variants": done.ours},
        "peers": done.peers,
        **compared,
        "failed": done.failed,
    }


def ratios_by_packing(done: Contest) -> dict[str, dict[str, float]]:
    """Our best variant of each packing against the best of all peers."""
    ratios = {}
    for packing in dict.fromkeys(entry["packing"] for entry in done.ours.values()):
        mine = {n: entry for n, entry in done.ours.items() if entry["packing"] == packing}
        if best(mine, RATE):
            ratios[packing] = compare(Contest(mine, done.peers), RATE)
    return ratios


def _shape(options: TrainOptions, folder: Path) -> dict[str, Any]:
    """Random bfloat16 weights and 8 rows x 2048 tokens; against PEFT where torch sees a GPU.

    Raises:
        RuntimeError: jax sees a CPU only, or a worker died.
    """
    # Asked in another process: this one keeps off the accelerator.
    program = "import jax; print(jax.default_backend())"
    asked = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    if asked.stdout.split()[-1] == "cpu":
        raise RuntimeError(
            f"--shape {options.shape} needs a GPU or a TPU: jax sees only a CPU here"
        )
    import torch

    config, lora = PRESETS[options.shape], LoraConfig()
    job = random_job(config, rows=8, row_length=2048, steps=4, epochs=options.rounds, lora=lora)
    # Each side may choose how much to recompute and how many examples to take at once.
    ours, peers, step = [], [], job.sft.batch_size
    for remat in ("projections", "layer"):
        ours += [Variant("ours", "bfloat16", size, remat) for size in (step, step // 2)]
    for remat in ("none", "layer") if torch.cuda.is_available() else ():
        sizes = (step, step // 2, step // 4, step // 8)
        peers += [Variant("hf", "bfloat16", size, remat) for size in sizes]
    return add_utilisation(measure(job, ours, peers, step, folder, large=True), job)


def add_utilisation(result: dict[str, Any], job: TrainJob) -> dict[str, Any]:
    """Add to every entry the share of the machine's matrix products that it used.

    That is the operations that the job needs (see `sft.flops.train_flops`), over the time, over
    the rate that the same framework reaches in one large matrix product.
    """
    ours = result["ours"]
    flops = ours["step_flops"] * job.steps_per_epoch / job.amount
    for entry in [ours, *ours["variants"].values(), *result["peers"].values()]:
        entry["utilisation"] = entry[RATE] * flops / entry["matmul_flops_per_second"]
    say(f"utilisation of the measured matmul rate: {ours['utilisation']:.2f}")
    return result
