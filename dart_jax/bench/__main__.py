"""Measurements: `python -m dart_jax.bench {train,generate,load,quantize,client} [--out J]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dart_jax.bench import client, generate, load, quantize, train
from dart_jax.command_line import CommandParser
from dart_jax.records import write_text
from dart_jax.shell import exit_status

COMMANDS = {
    "train": train,
    "generate": generate,
    "load": load,
    "quantize": quantize,
    "client": client,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write; the exit status."""
    parser = CommandParser(
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
    """`main` for a shell, see `shell.exit_status`."""
    return exit_status(main, stopped="")


if __name__ == "__main__":
    sys.exit(command())
