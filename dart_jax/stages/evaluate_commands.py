"""The commands of `python -m dart_jax.evaluate`.

compare      finished runs side by side
open-ended   a finished run on the 280 open-ended queries, graded by the judge
external     a finished run on HateCheck, BOLD, HolisticBias or RealToxicityPrompts
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dart_jax.stages import compare, wider_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do it; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dart_jax.evaluate",
        description="Finished runs side by side, and on prompts beyond their own suite.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare.add_command(commands)
    wider_commands.add_commands(commands)
    args, args.settings = parser.parse_known_args(arguments)
    for index, given in enumerate(args.settings):
        # What begins without dashes is the value of the setting before it.
        if not given.startswith(args.free) and (given.startswith("--") or index == 0):
            parser.error(f"unrecognized argument {given}")
    args.command(args)
    return 0


def command() -> int:
    """`main` for a shell: an error that the user can mend is a message, not a traceback."""
    try:
        return main()
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("DART_JAX_TRACEBACK"):
            raise
        print(f"error: {error}\n(DART_JAX_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
