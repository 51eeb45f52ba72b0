"""Further evaluation of a finished run: `python -m dart_jax.evaluate open-ended | external`."""

import sys

from dart_jax.stages.wider_commands import command

if __name__ == "__main__":
    sys.exit(command())
