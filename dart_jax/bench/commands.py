"""The benchmarks by name, with their options; a benchmark is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dart_jax.command_line import CommandParser, value_of
from dart_jax.model.config import ModelConfig
from dart_jax.records import write_text
from dart_jax.settings import Count, Positive
from dart_jax.sft.config import SftConfig

TYPES = ["float32", "bfloat16"]
SHAPES = ["llama-3-8b"]
count = value_of(Count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write; the exit status."""
    parser = CommandParser(
        prog="python -m dart_jax bench", description="Measured against peers, in one run."
    )
    add_commands(parser.add_subparsers(dest="command", required=True).add_parser)
    args = parser.parse_args(arguments)
    run(args.command, args)
    return 0


def add_commands(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Make the parser of every benchmark, with argparse's `subparsers.add_parser`."""
    for name, (summary, add_options) in COMMANDS.items():
        parser = add_parser(name, help=summary, description=summary)
        add_options(parser.add_argument)
        parser.add_argument("--out", type=Path, metavar="J", help="JSON file to write")


def run(command: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; what `--out` holds is written and returned."""
    result = importlib.import_module(f"dart_jax.bench.{command}").run(args)
    if args.out is not None:
        write_text(args.out, json.dumps(result, indent=1) + "\n")
    return result


def _sides(add: Callable[..., Any], batches: list[int]) -> None:
    """Options of both contests against Hugging Face."""
    add("--peer", choices=["hf"], default="hf", help="transformers and PEFT, on torch")
    add("--rounds", type=count, default=3, help="timed rounds of each side (default 3)")
    add("--run", type=Path, help="folder of a finished run, whose examples or models are taken")
    add("--ours-dtype", nargs="+", choices=TYPES, default=TYPES, help="that we try (both)")
    add("--peer-dtype", nargs="+", choices=TYPES, default=TYPES, help="that the peer tries (both)")
    several = {"nargs": "+", "type": count, "metavar": "N"}
    shown = " ".join(map(str, batches))
    text = f"batch sizes that the peer is tuned over (default {shown})"
    add("--peer-batches", **several, default=batches, help=text)
    add("--seed", type=int, default=0, help="of adapter, order and noise (default 0)")


def _train(add: Callable[..., Any]) -> None:
    _sides(add, [1, 4, 8, 16])
    add("--model", default=ModelConfig.path, help="as model.path")
    add("--examples", type=count, default=128, help="examples in an epoch (default 128)")
    add("--batch-size", type=count, default=16, help="examples per optimizer step (default 16)")
    add("--packing", choices=["none", "segments", "shared_prefix"], default=SftConfig.packing)
    add("--row-length", type=count, default=SftConfig.row_length, help="as sft.row_length")
    add("--tune-examples", type=count, default=16, help="in a tuning round (default 16)")
    add("--shape", choices=SHAPES, help="random weights and tokens, 8 x 2048, bfloat16")


def _generate(add: Callable[..., Any]) -> None:
    _sides(add, [8, 16, 32])
    add("--model", help="as model.path, with the mini suite and a random adapter; without --run")
    add("--prompts", type=count, default=32, metavar="N", help="pairs (default 32)")
    add("--new-tokens", type=count, default=64, metavar="K", help="fixed number (default 64)")
    add("--natural-limit", type=count, default=256, help="with natural stops (default 256)")
    slots = "rows that we decode together, of both models (default 64)"
    add("--slots", nargs="+", type=count, default=[64], metavar="N", help=slots)


def _load(add: Callable[..., Any]) -> None:
    size = value_of(Positive)
    add("--gib", type=size, default=3.0, help="size of the checkpoint, about (default 3)")


def _quantize(add: Callable[..., Any]) -> None:
    add("--model", default=ModelConfig.path, help="as model.path")
    add("--rows", type=count, default=16, help="texts to measure on (default 16)")
    add("--steps", type=count, default=8, help="training steps of 8 texts (default 8)")


def _client(add: Callable[..., Any]) -> None:
    add("--requests", type=count, default=1600, help="requests (default 1600)")
    add("--concurrency", type=count, default=32, help="in flight (default 32)")
    add("--latency", type=value_of(Positive), default=0.2, help="seconds (default 0.2)")


COMMANDS = {
    "train": ("Training speed and memory against Hugging Face PEFT, in turn.", _train),
    "generate": ("Decoding pairs of models against Hugging Face generate, in turn.", _generate),
    "load": ("Host memory while a checkpoint is loaded over eight simulated devices.", _load),
    "quantize": ("Bytes, logits and training of the base in 8 and 4 bits.", _quantize),
    "client": ("Throughput and overhead of the chat client against a slow server.", _client),
}
