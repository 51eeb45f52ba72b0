"""Measurements: `python -m dart_jax.bench {train,generate,load,quantize,client} [--out J]`."""

import sys
from collections.abc import Sequence

from dart_jax.bench.commands import add_commands, run
from dart_jax.command_line import CommandParser
from dart_jax.shell import exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write; the exit status."""
    parser = CommandParser(
        prog="python -m dart_jax.bench", description="Measured against peers, in one run."
    )
    add_commands(parser.add_subparsers(dest="command", required=True).add_parser)
    args = parser.parse_args(arguments)
    run(args.command, args)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main, stopped=""))
