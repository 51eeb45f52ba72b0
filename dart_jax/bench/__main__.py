"""Measurements: `python -m dart_jax.bench {train,generate,load,quantize,client} [--out J]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dart_jax.bench import client, generate, load, quantize, train
from dart_jax.records import write_text

COMMANDS = {
    "train": train,
    "generate": generate,
    "load": load,
    "quantize": quantize,
    "client": client,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dart_jax.bench", description="Measured against peers, in one run."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.add_argument("--out", type=Path, metavar="J", help="JSON file to write")
    args = parser.parse_args(arguments)
    result = COMMANDS[args.command].run(args)
    if args.out is not None:
        write_text(args.out, json.dumps(result, indent=1) + "\n")
    return 0


def command() -> int:
    """`main` for a shell: an error that the user can mend is a message, not a traceback."""
    try:
        return main()
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        if os.environ.get("DART_JAX_TRACEBACK"):
            raise
        print(f"error: {error}\n(DART_JAX_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(command())
