"""A large model's shape with random weights and tokens on an accelerator, with utilisation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import contest, say
from dart_jax.bench.job import Job, Variant
from dart_jax.bench.prepare import random_job
from dart_jax.model.config import LoraConfig
from dart_jax.model.presets import PRESETS

SHAPES = ("llama-3-8b",)


def shape(name: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Bfloat16 steps of 8 rows x 2048 tokens; against PEFT where torch sees a GPU.

    Raises:
        RuntimeError: jax sees a CPU only, or a worker died.
    """
    # Asked in another process: this one keeps off the accelerator.
    program = "import jax; print(jax.default_backend())"
    asked = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    if asked.stdout.split()[-1] == "cpu":
        raise RuntimeError(f"--shape {name} needs a GPU or a TPU: jax sees only a CPU here")
    import torch

    job = random_job(
        PRESETS[name], rows=8, row_length=2048, steps=4, epochs=rounds, lora=LoraConfig()
    )
    # Each side may choose how much to recompute and how many examples to take at once.
    step = job.sft.batch_size
    ours = [
        Variant("ours", "bfloat16", size, remat)
        for remat in ("projections", "layer")
        for size in (step, step // 2)
    ]
    peers = [
        Variant("hf", "bfloat16", size, remat)
        for remat in ("none", "layer")
        for size in (step, step // 2, step // 4, step // 8)
    ]
    return shape_contest(job, ours, peers if torch.cuda.is_available() else [], folder)


def shape_contest(
    job: Job, ours: list[Variant], peers: list[Variant], folder: Path
) -> dict[str, Any]:
    """A contest in which both sides are tuned, and every entry has its `utilisation`.

    That is the operations that the job needs (see `sft.flops.train_flops`), over the time, over
    the rate that the same framework reaches in one large matrix product.
    """
    result = contest(job, ours, peers, job.sft.batch_size, folder, large=True)
    best = result["ours"]
    flops = best["step_flops"] * job.steps_per_epoch / len(job.examples)
    for entry in [best, *best["variants"].values(), *result["peers"].values()]:
        rate = entry["examples_per_second"] * flops
        entry["utilisation"] = rate / entry["matmul_flops_per_second"]
    say(f"utilisation of the measured matmul rate: {best['utilisation']:.2f}")
    return result
