"""The command line of sweeps; see `dart_jax.sweep.commands`."""

import sys

from dart_jax.sweep.commands import command

if __name__ == "__main__":
    sys.exit(command())
