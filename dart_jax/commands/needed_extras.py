"""Print the extras that a run needs: `python -m dart_jax.commands.needed_extras ARGUMENTS`.

launch/setup_for.sh asks, with the arguments of the run, what it is to install before the run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dart_jax.audit.scorers import scorer_specs
from dart_jax.chat.endpoint import PRESETS
from dart_jax.cli import exit_status
from dart_jax.config import DartConfig, read_command

CLASSIFIERS = ("detoxify", "hf")


def needed_extras(config: DartConfig, stages: Sequence[str]) -> list[str]:
    """List the extras that the stages of a run import, in the order of the alphabet.

    Raises:
        ValueError: An entry of `audit.scorers` names no scorer.
    """
    extras = set()
    if config.data.suite == "hub":
        extras.add("hub")

    if any(config.service(role).provider in PRESETS for role in config.roles):
        extras.add("services")

    scorers = [] if set(stages) <= {"teach", "distill"} else [config.audit]
    if "evaluate" in stages and config.further_scorers is not None:
        scorers.append(config.further_scorers)
    for settings in scorers:
        kinds = {kind for kind, _, _ in scorer_specs(settings)}
        if kinds & set(CLASSIFIERS):
            extras.add("classifiers")
        if config.asks_guard:
            extras.add("services")

    if {"distill", "repair"} & set(stages):
        extras.update(config.run.trackers)
        # Part of the core.
        extras.discard("tensorboard")

    return sorted(extras)


def main(arguments: Sequence[str]) -> int:
    """Print the extras on one line; nothing where none is needed or the run only prints its help.

    Raises:
        BadSetting: As the run would.
    """
    if {"-h", "--help"} & set(arguments):
        return 0
    command = read_command(arguments)
    extras = needed_extras(command.config, command.stages)
    if extras:
        print(*extras)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:]), stopped=""))
