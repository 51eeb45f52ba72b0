"""Run DART: `python -m dart_jax.train --config configs/quickstart.yaml [--section.field value]`.

The stages run in order: teach, distill, audit, repair, evaluate. A second start skips what is
done and goes on where the first was stopped. `--dry-run` prints what services would be asked.

On several hosts (a TPU slice, GPU nodes) the same command is started on each, with
DART_JAX_DISTRIBUTED=1 and a run.root that all of them see; `processes.start` says what else.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from dart_jax import __version__, processes
from dart_jax.changes import enumerated
from dart_jax.chat.budget import BudgetReached
from dart_jax.config import STAGES, Command, DartConfig, make_parser, parse_command
from dart_jax.processes import on_every, on_first
from dart_jax.records import write_text
from dart_jax.run_dir import RunDir, StaleStage
from dart_jax.shell import exit_status
from dart_jax.stages.run_day import day_of_run

if TYPE_CHECKING:
    from dart_jax.stages.sharing import Sharing

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def main(args: Sequence[str] | None = None, today: datetime.date | None = None) -> int:
    """Parse, run the stages, report; the exit status. Without an argument, help is printed.

    Args:
        today: The clock's day by default; see `stages.run_day` for what it is used for.
    """
    args = sys.argv[1:] if args is None else args
    if not args:
        make_parser().print_help()
        return 2
    command = parse_command(args)
    today = today or datetime.date.today()
    if command.dry_run:
        from dart_jax.stages.dry_run import print_estimates

        dated = _on_its_day(args, command, today)
        print_estimates(dated.config, dated.stages)
        return 0
    processes.start()
    with processes.only_first_prints():
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
    day = on_first(partial(day_of_run, folder, today))
    return parse_command([*args, f"--model.date={day}"])


def run_locked(
    config: DartConfig, stages: Sequence[str], resolved: str, sharing: Sharing | None = None
) -> None:
    """Take the run's folder, write its settings and run its stages."""
    folder = on_every(lambda: RunDir(config.run))
    with ExitStack() as held:
        on_first(lambda: held.enter_context(folder.lock()))
        folder.check_shared()
        processes.require_same({"--stages": ",".join(stages), **_flat(config), **_packages()})
        on_first(partial(_write_settings, folder, resolved))
        run_stages(config, folder, stages, sharing)


def _write_settings(folder: RunDir, resolved: str) -> None:
    versions = {
        "dart_jax": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **_packages(),
    }
    write_text(folder / "config.yaml", resolved)
    write_text(folder / "versions.json", json.dumps(versions, indent=1) + "\n")


def _flat(config: DartConfig) -> dict[str, str]:
    sections = config.to_dict().items()
    return {f"{name}.{key}": str(v) for name, section in sections for key, v in section.items()}


def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def run_stages(
    config: DartConfig, folder: RunDir, stages: Sequence[str], sharing: Sharing | None = None
) -> None:
    """Run the stages that are asked for and not up to date.

    Args:
        sharing: What other runs of a sweep have done already; see `stages.sharing`.

    Raises:
        StaleStage: A stage that was asked for needs an earlier one that was not.
    """
    # Imported here, so that --help does not wait for jax.
    from dart_jax.stages.checks import check_before_work, check_settings, check_stages
    from dart_jax.stages.context import Run
    from dart_jax.stages.sharing import kept_files
    from dart_jax.stages.steps import steps

    processes.keep_compiled(folder.path.parent)
    check_stages(config, stages)
    run = on_every(lambda: Run(config, folder, sharing and sharing.loaded))
    processes.require_same({"questions": run.split_input(*run.splits)})
    check_settings(run, stages)
    sizes = ", ".join(f"{len(questions)} {name}" for name, questions in run.splits.items())
    print(
        f"run {folder.path}: {config.data.suite}, protocol {config.audit.protocol}, "
        f"split by {config.data.split_by}: {sizes}"
    )
    last = max(STAGES.index(stage) for stage in stages)
    checked = False
    total = len(STAGES) + 2 * (config.repair.cycles - 1)
    for number, step in enumerate(steps(run), 1):
        if STAGES.index(step.stage) > last:
            break
        name, inputs = step.name, on_first(partial(step.inputs, run))
        if on_first(partial(folder.is_current, name, inputs)):
            print(f"[{number}/{total}] {name}: up to date", flush=True)
            continue
        if sharing and (source := on_first(partial(sharing.take_stage, run, step, inputs))):
            print(f"[{number}/{total}] {name}: taken from {source}", flush=True)
            continue
        reasons = enumerated(on_first(partial(folder.reasons, name, inputs)))
        if step.stage not in stages:
            raise StaleStage(
                f"stage {name} is not up to date ({reasons or 'it has not ended'}) and "
                f"--stages leaves it out; run it first: --stages {step.stage}"
            )
        print(f"[{number}/{total}] {name}", flush=True)
        if reasons:
            print(f"{name}: again, because {reasons}", flush=True)
        if not checked:
            check_before_work(run, stages)
            if sharing:
                on_first(partial(sharing.take_stores, run))
            checked = True
        step.check(run)
        run.stage = step.name
        started = time.perf_counter()
        kept = on_first(partial(kept_files, run, step, inputs))
        if kept:
            print(f"{name}: kept, as it would be the same: {', '.join(kept)}", flush=True)
        with folder.stage(name, inputs, step.outputs, step.work, kept) as set_aside_in:
            if set_aside_in is not None:
                print(f"{name}: what it had left is in {set_aside_in} now", flush=True)
            if sharing:
                on_first(partial(sharing.take_answers, run, step, inputs))
            step.execute(run)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    if not checked:
        report, adapters = folder / "report/report.md", folder / "adapters"
        print(f"nothing to do; {report if report.exists() else adapters}")


def command() -> int:
    """`main` for a shell, see `shell.exit_status`."""
    return exit_status(_within_budget, who=_process)


def _within_budget() -> int:
    try:
        return main()
    except BudgetReached as reached:
        print(f"stopped: {reached}", file=sys.stderr)
        return 1


def _process() -> str:
    return f"process {processes.process_index()}: " if processes.process_count() > 1 else ""


if __name__ == "__main__":
    sys.exit(command())
