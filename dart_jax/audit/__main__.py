"""The audit's own error: `python -m dart_jax.audit calibrate`, export-, import-annotations."""

import sys

from dart_jax.stages.audit_commands import command

if __name__ == "__main__":
    sys.exit(command())
