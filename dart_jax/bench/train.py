"""Training against Hugging Face PEFT on the same job.

First a check that both sides compute the same losses; then the peer's variants are tuned on a few
examples, and its best and ours take turns at whole epochs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import (
    Entry,
    against_peer,
    alternate,
    best,
    compare,
    contest,
    say,
    table,
)
from dart_jax.bench.jobs import TrainJob, Variant, padded_tokens
from dart_jax.bench.options import TrainOptions
from dart_jax.bench.prepare import check_job, random_job, train_job, tune_job
from dart_jax.model.config import LoraConfig
from dart_jax.model.presets import PRESETS
from dart_jax.report.document import Column

CHECKED_EXAMPLES = 4
# Float32 noise through 30 layers, forward; and after one update.
TOLERANCES = (1e-4, 1e-3)
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
    say(f"checking that both sides compute the same losses, on {CHECKED_EXAMPLES} examples")
    small = check_job(job, CHECKED_EXAMPLES)
    sides = [Variant("ours", "float32"), Variant("hf", "float32", small.amount)]
    checked = alternate(small, sides, small.sft.epochs, folder)
    ours, theirs = [[one.result.loss for one in rounds] for _, rounds, _ in checked]
    check = same_losses(ours, theirs, small.amount)

    mine = [Variant("ours", dtype) for dtype in options.ours_dtype]
    peers = [Variant("hf", d, size) for d in options.peer_dtype for size in options.peer_batches]
    return {"same_losses": check} | measure(job, mine, peers, options.tune_examples, folder)


def same_losses(ours: Sequence[float], theirs: Sequence[float], examples: int) -> dict[str, Any]:
    """Both sides' losses on one batch without dropout, before and after one update.

    Raises:
        RuntimeError: They differ: the sides would not do the same job.
    """
    differences = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
    check = {
        "examples": examples,
        "ours": list(ours),
        "hf": list(theirs),
        "relative_differences": differences,
        "tolerances": list(TOLERANCES),
    }
    # Written so that a loss that is no number counts as a difference.
    if not all(d <= limit for d, limit in zip(differences, TOLERANCES, strict=True)):
        raise RuntimeError(f"the sides do not compute the same losses: {check}")
    return check


def measure(
    job: TrainJob,
    ours: Sequence[Variant],
    peers: Sequence[Variant],
    tune_examples: int,
    folder: Path,
    large: bool = False,
) -> dict[str, Any]:
    """The contest of both sides, as `--out` has it; see `contest` for `large`."""
    few, rounds = tune_job(job, tune_examples), job.sft.epochs

    def tuned_share(entry: Entry) -> float:
        """Few examples of the peer pad more than many: its rate is that of the positions."""
        if entry["variant"] in {variant.name for variant in ours}:
            return 1.0
        size = entry["micro_batch"]
        in_tuning = padded_tokens(few.examples, size) / few.amount
        return in_tuning / (padded_tokens(job.examples, size) / job.amount)

    done = contest(
        job, ours, peers, rounds, folder, tuning=few, tuned_share=tuned_share, large=large
    )
    say("\n" + table(done, RATE, COLUMNS))
    compared = {}
    if done.peers:
        compared = {"best_peer": best(done.peers, RATE)["variant"], **compare(done, RATE)}
    return {
        "examples": job.amount,
        "rounds": rounds,
        "examples_per_step": job.sft.batch_size,
        "ours": {**best(done.ours, RATE), "variants": done.ours},
        "peers": done.peers,
        **compared,
        "failed": done.failed,
    }


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
