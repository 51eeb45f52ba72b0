"""Finished runs side by side: `python -m dart_jax.evaluate compare RUN RUN...`."""

import sys

from dart_jax.stages.compare import command

if __name__ == "__main__":
    sys.exit(command())
