"""Run DART: `python -m dart_jax.train --config configs/quickstart.yaml [--section.field value]`.

The stages run in order: teach, distill, audit, repair, evaluate. A second start skips what is
done and goes on where the first was stopped. `--dry-run` prints what services would be asked.

On several hosts (a TPU slice, GPU nodes) the same command is started on each, with
DART_JAX_DISTRIBUTED=1 and a run.root that all of them see; `processes.start` says what else.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from functools import partial

from dart_jax import processes
from dart_jax.cli import exit_status
from dart_jax.config import Command, make_parser, read_command
from dart_jax.pipeline.run_day import day_of_run
from dart_jax.processes import on_primary
from dart_jax.run_dir import RunDir


def main(args: Sequence[str] | None = None, today: datetime.date | None = None) -> int:
    """Parse, run the stages, report; the exit status. Without an argument, help is printed.

    Args:
        today: The clock's day by default; see `pipeline.run_day` for what it is used for.
    """
    args = sys.argv[1:] if args is None else args
    if not args:
        make_parser().print_help()
        return 2
    command = read_command(args)
    today = today or datetime.date.today()

    # Imported here, so that --help does not wait for jax.
    if command.dry_run:
        from dart_jax.pipeline.dry_run import print_estimates

        dated = _on_its_day(args, command, today)
        print_estimates(dated.config, dated.stages)
        return 0

    # Before any other use of jax: what imports it comes after.
    processes.start()
    from dart_jax.pipeline.run import run_locked

    with processes.only_primary_prints():
        dated = _on_its_day(args, command, today)
        run_locked(dated.config, dated.stages, dated.resolved)
    return 0


def _on_its_day(args: Sequence[str], command: Command, today: datetime.date) -> Command:
    """The command with `model.date` set: by the user, by the run's first start, or today.

    The first process decides for all: another host's clock may be past midnight.
    """
    if command.config.model.date is not None:
        return command
    folder = RunDir(command.config.run).path
    day = on_primary(partial(day_of_run, folder, today))
    # Read as if it had been given, so that config.yaml keeps it for later starts.
    return read_command([*args, f"--model.date={day}"])


def command() -> int:
    """`main` for a shell, see `cli.exit_status`."""
    return exit_status(main)


if __name__ == "__main__":
    sys.exit(command())
