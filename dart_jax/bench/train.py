"""Training speed and memory against Hugging Face PEFT, on the same job, alternating in one run.

Every variant (a framework, a type, a micro-batch size) works in a process of its own. First a
check that both sides compute the same losses; then the peer's variants are tuned on a few
examples, and its best and ours take turns at whole epochs, one working while the others sleep.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from dart_jax.bench.contest import contest, say
from dart_jax.bench.job import Variant
from dart_jax.bench.peer import PACKAGES, positive, require_peer
from dart_jax.bench.prepare import check_job, mini_targets, prepare_job, run_targets
from dart_jax.bench.rounds import untimed
from dart_jax.bench.shape import SHAPES, shape
from dart_jax.bench.summary import agreement, table
from dart_jax.machine import OURS, machine, versions
from dart_jax.model.config import LoraConfig
from dart_jax.sft.config import SftConfig

CHECKED_EXAMPLES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m dart_jax.bench train`."""
    add = parser.add_argument
    types = ["float32", "bfloat16"]
    add("--peer", choices=["hf"], default="hf", help="hf: transformers with PEFT, on torch")
    add("--examples", type=positive, default=128, help="examples in an epoch (default 128)")
    add("--rounds", type=positive, default=3, help="timed epochs of each side (default 3)")
    add("--run", type=Path, help="train on the distill targets of this finished run's folder")
    add("--model", default="smollm2-135m-instruct", help="as model.path")
    add("--batch-size", type=positive, default=16, help="examples per optimizer step (default 16)")
    add("--packing", choices=["none", "segments", "shared_prefix"], default=SftConfig.packing)
    add("--row-length", type=positive, default=SftConfig.row_length, help="as sft.row_length")
    add("--ours-dtype", nargs="+", choices=types, default=types, help="ours (default: both)")
    add("--peer-dtype", nargs="+", choices=types, default=types, help="the peer's (default: both)")
    add(
        "--peer-batches",
        nargs="+",
        type=positive,
        default=[1, 4, 8, 16],
        metavar="N",
        help="micro-batch sizes that the peer is tuned over (default 1 4 8 16)",
    )
    add("--tune-examples", type=positive, default=16, help="in a tuning round (default 16)")
    add("--shape", choices=SHAPES, help="random weights and tokens, 8 x 2048, bfloat16")
    add("--seed", type=int, default=0, help="of adapter, order and dropout (default 0)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return what `--out` holds.

    Raises:
        RuntimeError: A library of the peer is missing, the losses differ or are no numbers, or
            a worker died (WorkerDied).
        ValueError: Settings that do not fit each other.
    """
    require_peer()
    # This process only prepares; the devices are the workers'.
    import jax

    jax.config.update("jax_platforms", "cpu")
    where = {"machine": machine(), "versions": versions([*OURS, *PACKAGES])}
    with tempfile.TemporaryDirectory(prefix="dart_jax_bench_") as name:
        folder = Path(name)
        result = shape(args.shape, args.rounds, folder) if args.shape else suite(args, folder)
    print("\n" + table(result))
    return result | where


def suite(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Examples of a suite, on the model that `--model` names."""
    _check_sizes(args)
    targets = run_targets(args.run, args.examples) if args.run else mini_targets(args.examples)
    if len(targets[0]) < args.examples:
        raise ValueError(f"--examples {args.examples}: there are only {len(targets[0])}")
    sft = SftConfig(
        epochs=args.rounds,
        batch_size=args.batch_size,
        packing=args.packing,
        row_length=args.row_length,
    )
    job = prepare_job(args.model, *targets, folder, sft=sft, lora=LoraConfig(), seed=args.seed)
    say(f"checking that both sides compute the same losses, on {CHECKED_EXAMPLES} examples")
    small = check_job(job, CHECKED_EXAMPLES)
    count = len(small.examples)
    sides = [Variant("ours", "float32"), Variant("hf", "float32", count)]
    found = untimed(small, sides, small.sft.epochs, folder)
    check = agreement(*([one.loss for one in rounds] for rounds in found), count)
    ours = [Variant("ours", dtype) for dtype in args.ours_dtype]
    peers = [Variant("hf", d, size) for d in args.peer_dtype for size in args.peer_batches]
    return {"same_losses": check} | contest(job, ours, peers, args.tune_examples, folder)


def _check_sizes(args: argparse.Namespace) -> None:
    for size in args.peer_batches:
        if args.batch_size % size:
            raise ValueError(f"--peer-batches {size} does not divide --batch-size")
        if size > min(args.examples, args.tune_examples):
            raise ValueError(
                f"--peer-batches {size} is more than --examples or --tune-examples: "
                "there would be no full micro-batch to time"
            )
