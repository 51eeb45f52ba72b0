"""Finished runs beyond their own report: `python -m dart_jax.evaluate COMMAND`."""

import sys

from dart_jax.stages.evaluate_commands import command

if __name__ == "__main__":
    sys.exit(command())
