"""Run the stages of a run: those that are asked for and not up to date, in order."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from dart_jax import __version__, processes
from dart_jax.backend import tell_hardware
from dart_jax.changes import enumerated, flatten
from dart_jax.compiled import keep_compiled
from dart_jax.config import STAGES, DartConfig
from dart_jax.pipeline.layout import settle
from dart_jax.pipeline.plan import stages_of, unasked_stages
from dart_jax.pipeline.preflight import (
    check_before_work,
    check_settings,
    check_stages,
    uses_devices,
)
from dart_jax.pipeline.reuse import Reuse, kept_files
from dart_jax.processes import on_all, on_primary
from dart_jax.records import write_text
from dart_jax.run_dir import RunDir, StaleStage
from dart_jax.stages.context import Run

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def run_locked(
    config: DartConfig, stages: Sequence[str], resolved: str, reuse: Reuse | None = None
) -> None:
    """Take the run's folder, write its settings and run its stages."""
    folder = on_all(lambda: RunDir(config.run))
    with ExitStack() as held:
        on_primary(lambda: held.enter_context(folder.lock()))
        folder.check_shared()
        # Before anything is written: a job that was not started alike leaves config.yaml as it was.
        settings = {name: str(value) for name, value in flatten(config.to_dict()).items()}
        processes.require_same({"--stages": ",".join(stages), **settings, **_packages()})
        on_primary(partial(_write_settings, folder, resolved))
        run_stages(config, folder, stages, reuse)


def _write_settings(folder: RunDir, resolved: str) -> None:
    versions = {
        "dart_jax": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **_packages(),
    }
    write_text(folder / "config.yaml", resolved)
    write_text(folder / "versions.json", json.dumps(versions, indent=1) + "\n")


def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def run_stages(
    config: DartConfig, folder: RunDir, stages: Sequence[str], reuse: Reuse | None = None
) -> None:
    """Run the stages that are asked for and not up to date.

    Args:
        reuse: What other runs of a sweep have done already; see `pipeline.reuse`.

    Raises:
        StaleStage: A stage that was asked for needs an earlier one that was not.
    """
    keep_compiled(folder.path.parent)
    check_stages(config, stages)
    if uses_devices(config, stages):
        trains = bool({"distill", "repair"} & set(stages))
        config = settle(config, on_all(tell_hardware), trains)
    if reuse:
        # Before the next model is loaded: two may exceed a device's memory.
        reuse.keep_models_of(config)

    run = on_all(lambda: Run(config, folder, reuse and reuse.loaded))
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
    # One at a time: inputs are files that the stages before have written.
    for number, planned in enumerate(stages_of(run), 1):
        if STAGES.index(planned.stage) > last:
            break
        name, inputs = planned.name, on_primary(partial(planned.inputs, run))
        if on_primary(partial(folder.is_current, name, inputs)):
            print(f"[{number}/{total}] {name}: up to date", flush=True)
            continue
        if reuse and (source := on_primary(partial(reuse.take_stage, run, planned, inputs))):
            print(f"[{number}/{total}] {name}: taken from {source}", flush=True)
            continue

        reasons = enumerated(on_primary(partial(folder.reasons, name, inputs)))
        # Last, since a stage that was not asked for may be up to date, or taken from another run.
        if planned.stage not in (*stages, *unasked_stages(config)):
            replay = " (it writes targets to replay; --repair.replay 0 does without)"
            hint = replay if config.model.given and planned.stage == "teach" else ""
            raise StaleStage(
                f"stage {name} is not up to date ({reasons or 'it has not ended'}) and "
                f"--stages leaves it out; run it first: --stages {planned.stage}{hint}"
            )

        print(f"[{number}/{total}] {name}", flush=True)
        if reasons:
            print(f"{name}: again, because {reasons}", flush=True)

        # Late, since it loads the model: a run that is up to date needs none.
        if not checked:
            check_before_work(run, stages)
            if reuse:
                on_primary(partial(reuse.take_stores, run))
            checked = True

        # Before the stage begins, which sets its earlier files aside.
        planned.check(run)
        run.stage = planned.name

        started = time.perf_counter()
        # While the manifest is there by which they are known.
        kept = on_primary(partial(kept_files, run, planned, inputs))
        if kept:
            print(f"{name}: kept, as it would be the same: {', '.join(kept)}", flush=True)
        with folder.stage(name, inputs, planned.outputs, planned.work, kept) as set_aside_in:
            if set_aside_in is not None:
                print(f"{name}: what it had left is in {set_aside_in} now", flush=True)
            if reuse:
                on_primary(partial(reuse.take_answers, run, planned, inputs))
            planned.execute(run)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)

    if not checked:
        report, adapters = folder / "report/report.md", folder / "adapters"
        print(f"nothing to do; {report if report.exists() else adapters}")
