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
from dart_jax.command_line import choose


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
    "fetch": Entry(
        "dart_jax.commands.fetch", "download models, scorers and suite for a run without a network"
    ),
    "sweep": Entry("dart_jax.commands.sweep.command", "run variants and seeds, side by side"),
    "generate": Entry("dart_jax.commands.generate", "talk to models, or answer a file of prompts"),
    "audit": Entry("dart_jax.commands.audit", "measure what the audit of a run gets wrong"),
    "evaluate": Entry("dart_jax.commands.evaluate", "compare runs, or ask them further suites"),
    "export": Entry(
        "dart_jax.commands.export",
        "write a run's adapter or merged model for other libraries",
        "stopped; nothing was written",
    ),
    "compile": Entry("dart_jax.commands.compile", "compile for TPUs or GPUs without them", ""),
    "bench": Entry("dart_jax.bench.commands", "measure speed and memory against peers", ""),
}


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named first; returns its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: _run(given or ["--help"]))


def _run(arguments: Sequence[str]) -> int:
    summaries = {name: entry.summary for name, entry in COMMANDS.items()}
    name, options = choose("python -m dart_jax", summaries, arguments)
    entry = COMMANDS[name]
    # Within that of `command`: this one knows what Ctrl-C means for the work that was chosen.
    return exit_status(lambda: import_module(entry.module).main(options), stopped=entry.stopped)


if __name__ == "__main__":
    sys.exit(command())
