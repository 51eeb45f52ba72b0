"""`python -m dart_jax sweep --config configs/ablation.yaml`: variants and seeds of a run.

Each variant with each seed is an ordinary run in `<out>/runs`, on which every other command works.
What runs have in common is done once; see `pipeline.reuse`. Killed at any moment, the same command
goes on. A run that fails is recorded and shown, and the others go on without it.
"""

from __future__ import annotations

import datetime
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dart_jax.command_line import call
from dart_jax.config import SETTINGS, STAGES
from dart_jax.settings import Natural

if TYPE_CHECKING:
    from dart_jax.commands.sweep.config import Sweep, SweepRun
    from dart_jax.commands.sweep.plan import SweepStage
    from dart_jax.evaluate.sweep_table import Failure
    from dart_jax.pipeline.reuse import Reuse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run variants and seeds of a configuration; what they share is done once.

    --section.field value, as of dart_jax.train, holds for every variant that does not set it.

    Attributes:
        config: YAML of base, variants, seeds.
        out: Where to write; without it, <run.root>/sweep/<name of the file>.
        seeds: These instead of the file's, such as 0.
        variants: These of the file's alone, such as linear uniform; without it, all.
        dry_run: Print which stages would run; run none.
        settings: The texts of `--section.field value`, by name.
    """

    config: Path
    out: Path | None = None
    seeds: tuple[Natural, ...] | None = None
    variants: tuple[str, ...] | None = None
    dry_run: bool = False
    settings: Mapping[str, str]


def main(arguments: Sequence[str], today: datetime.date | None = None) -> int:
    """Parse, run, tabulate; the exit status, 1 where a run has failed.

    Args:
        today: The clock's day by default; see `pipeline.run_day` for what it is used for.
    """
    options = call("python -m dart_jax sweep", Options, arguments, SETTINGS)
    from dart_jax.commands.sweep.config import read_sweep

    sweep = read_sweep(
        options.config, options.out, options.settings, options.seeds, options.variants, today
    )
    # Imported here, so that --help does not wait for jax.
    from dart_jax import processes
    from dart_jax.commands.sweep.plan import make_plan, plan_text
    from dart_jax.pipeline.run_day import keep_day_of_sweep
    from dart_jax.processes import on_primary
    from dart_jax.report.sweep_report import sweep_text
    from dart_jax.run_dir import RunConfig, RunDir

    processes.start()
    with ExitStack() as held, processes.only_primary_prints():
        plan = on_primary(lambda: make_plan(sweep.runs))
        print(plan_text(sweep.runs, plan), flush=True)
        if options.dry_run:
            return 0

        # A lock of the sweep's own, besides those of its runs: one start alone writes its tables.
        folder = RunDir(RunConfig(name=sweep.out.name, root=str(sweep.out.parent)))
        on_primary(lambda: held.enter_context(folder.lock()))
        on_primary(lambda: keep_day_of_sweep(sweep.out, sweep.day))
        failures = run_all(sweep, plan)
        print(f"\n{on_primary(lambda: sweep_text(sweep.out))}", flush=True)
    return 1 if failures else 0


def run_all(sweep: Sweep, plan: Sequence[Sequence[SweepStage]]) -> list[Failure]:
    """Run what is not done, and write the tables after each; the failures."""
    from dart_jax.commands.sweep.plan import left
    from dart_jax.commands.sweep.report import write_results
    from dart_jax.pipeline.reuse import Reuse
    from dart_jax.processes import on_primary

    reuse, failures, finished = Reuse(sweep.root), [], set()
    complete = {n for n, stages in enumerate(plan) if all(s.action == "done" for s in stages)}
    started = time.perf_counter()

    for number, run in enumerate(sweep.runs):
        print(
            f"\n== {number + 1} of {len(sweep.runs)}: {run.variant}, seed {run.seed}; "
            f"{left(plan[number:], finished)} stage runs left, "
            f"{time.perf_counter() - started:.0f} s so far",
            flush=True,
        )

        failure = _run_one(run, reuse)
        if failure is None:
            finished |= {stage.key for stage in plan[number]}
            complete.add(number)
        else:
            failures.append(failure)
            complete.discard(number)
        on_primary(partial(write_results, sweep, sorted(complete), failures))
    return failures


def _run_one(run: SweepRun, reuse: Reuse) -> Failure | None:
    from dart_jax.evaluate.sweep_table import Failure
    from dart_jax.pipeline.run import run_locked
    from dart_jax.processes import on_primary
    from dart_jax.run_dir import RunDir

    try:
        run_locked(run.config, STAGES, run.resolved, reuse)
    except Exception as error:  # a variant may bring code of its own, which may raise anything
        if os.environ.get("DART_JAX_TRACEBACK"):
            traceback.print_exc()
        message = " ".join(f"{type(error).__name__}: {error}".split())
        stage = on_primary(lambda: RunDir(run.config.run).stage_at_work())
        print(f"error: {run.variant}, seed {run.seed}, {stage or 'start'}: {message}", flush=True)
        return Failure(run.variant, run.seed, stage, message)
    return None
