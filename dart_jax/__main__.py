"""`python -m dart_jax COMMAND`, or `dart-jax COMMAND`: every command, in one list.

A command's module has `main(arguments) -> int`. It is imported when it is asked for, and its heavy
libraries when it works, so that no --help waits for jax.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from dart_jax.cli import GOES_ON, exit_status
from dart_jax.command_line import did_you_mean


class Entry(NamedTuple):
    """A command in the list.

    Attributes:
        module: Has its `main`.
        summary: Its line in the list.
        stopped: What Ctrl-C means for its work; '' where there is nothing to say.
    """

    module: str
    summary: str
    stopped: str = GOES_ON


COMMANDS = {
    "train": Entry("dart_jax.train", "run the stages: teach, distill, audit, repair, evaluate"),
    "sweep": Entry("dart_jax.commands.sweep.command", "run variants and seeds, side by side"),
    "generate": Entry("dart_jax.commands.generate", "ask a run's models, typed or from a file"),
    "audit": Entry("dart_jax.commands.audit", "measure what the audit of a run gets wrong"),
    "evaluate": Entry("dart_jax.commands.evaluate", "compare runs, or ask them further suites"),
    "export": Entry(
        "dart_jax.commands.export",
        "write a run's adapter or merged model for other libraries",
        "stopped; nothing was written",
    ),
    "compile": Entry("dart_jax.commands.compile", "compile for a TPU that is not there", ""),
    "bench": Entry("dart_jax.bench.commands", "measure speed and memory against peers", ""),
}

USAGE = "usage: python -m dart_jax COMMAND [OPTIONS]"


def command_list() -> str:
    """Write the list of commands that `python -m dart_jax --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"    {name.ljust(width)}  {entry.summary}" for name, entry in COMMANDS.items()]
    hint = "`python -m dart_jax COMMAND --help` explains a command."
    return "\n".join([USAGE, "", *lines, "", hint])


def command(arguments: Sequence[str] | None = None) -> int:
    """Find the command and run it; the exit status, 2 where there is no such command."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(command_list())
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"error: unknown command {name}{hint}", file=sys.stderr)
        print("(python -m dart_jax --help lists the commands)", file=sys.stderr)
        return 2
    entry = COMMANDS[name]
    return exit_status(lambda: import_module(entry.module).main(rest), stopped=entry.stopped)


if __name__ == "__main__":
    sys.exit(command())
