"""The commands of `python -m dart_jax evaluate`.

compare      finished runs side by side
open-ended   a finished run on the 280 open-ended queries, graded by the judge
external     a finished run on HateCheck, BOLD, HolisticBias or RealToxicityPrompts
"""

from __future__ import annotations

from collections.abc import Sequence

from dart_jax.command_line import CommandParser
from dart_jax.commands import compare, external_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `evaluate`; returns the exit status."""
    parser = CommandParser(
        prog="python -m dart_jax evaluate",
        description="Finished runs side by side, and on prompts beyond their own suite.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare.add_command(commands)
    external_commands.add_commands(commands)
    args, args.settings = parser.parse_known_args(arguments)
    for index, given in enumerate(args.settings):
        # What begins without dashes is the value of the setting before it.
        if not given.startswith(args.free) and (given.startswith("--") or index == 0):
            parser.error(f"unrecognized arguments: {given}")
    args.command(args)
    return 0
