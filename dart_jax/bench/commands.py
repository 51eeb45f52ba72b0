"""The benchmarks by name; one is imported when it runs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence

from dart_jax.bench import options
from dart_jax.command_line import call_one
from dart_jax.records import write_text

PROG = "python -m dart_jax bench"
COMMANDS = {
    "train": options.TrainOptions,
    "generate": options.GenerateOptions,
    "load": options.LoadOptions,
    "quantize": options.QuantizeOptions,
    "client": options.ClientOptions,
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print, and write what `--out` is to hold; returns the exit status."""
    given = call_one(PROG, COMMANDS, arguments)
    name = next(name for name, kind in COMMANDS.items() if type(given) is kind)
    result = importlib.import_module(f"dart_jax.bench.{name}").run(given)
    if given.out is not None:
        write_text(given.out, json.dumps(result, indent=1) + "\n")
    return 0
