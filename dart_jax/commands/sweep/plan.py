"""Which stage runs a sweep will need, before any of them: what is done, shared, or to be run.

What a stage's inputs hash is not there before the stages ahead of it have run. In the plan a stage
is known by its settings and by the stages before it, which decide on those files:

    key(repair) = digest(settings of repair, key(audit)),   key(audit) = digest(..., key(distill))

Two stages with one key will have equal inputs. Stages with different keys may still turn out to
have them (no drift found under either threshold, say), and are shared then, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dart_jax.commands.sweep.config import SweepRun
from dart_jax.pipeline.plan import planned_stages, stages_of
from dart_jax.records import digest
from dart_jax.run_dir import RunConfig, RunDir
from dart_jax.stages.context import Run


@dataclass(frozen=True)
class SweepStage:
    """A stage of one run.

    Attributes:
        action: `done`, `shared` (another run of the sweep does it or has done it) or `run`.
        source: Name of that run; '' for the others.
    """

    name: str
    key: str
    action: Literal["done", "shared", "run"]
    source: str = ""


def stage_keys(own: SweepRun) -> dict[str, str]:
    """The key of each stage by its name; as many cycles as there may be."""
    # In a folder that is not there, what depends on files is the same for all.
    nowhere = RunDir(RunConfig(name="none", root=f"{own.config.run.root}/none"))
    run = Run(own.config, nowhere)
    keys, before = {}, ""
    for planned in planned_stages(own.config.repair.cycles):
        before = digest([planned.name, planned.inputs(run), before])
        keys[planned.name] = before
    return keys


def done_stages(own: SweepRun) -> set[str]:
    """Names of the stages that are up to date, from the first on."""
    folder = RunDir(own.config.run)
    found: set[str] = set()
    if not (folder / "stages").is_dir():
        return found
    run = Run(own.config, folder)
    for planned in stages_of(run):
        if not folder.is_current(planned.name, planned.inputs(run)):
            return found
        found.add(planned.name)
    # The loop may have ended before the last cycle.
    return found | {planned.name for planned in planned_stages(own.config.repair.cycles)}


def make_plan(runs: Sequence[SweepRun]) -> list[list[SweepStage]]:
    """The stages of each run, in order."""
    keys, done = list(map(stage_keys, runs)), list(map(done_stages, runs))
    names = [run.config.run.name for run in runs]
    source: dict[str, str] = {}
    # All that is done comes before all that is planned, from whichever run of the sweep.
    for name, own, finished in zip(names, keys, done, strict=True):
        for stage in finished:
            source.setdefault(own[stage], name)

    plan = []
    for name, own, finished in zip(names, keys, done, strict=True):
        stages = []
        for stage, key in own.items():
            if stage in finished:
                stages.append(SweepStage(stage, key, "done"))
            elif key in source:
                stages.append(SweepStage(stage, key, "shared", source[key]))
            else:
                stages.append(SweepStage(stage, key, "run"))
                source[key] = name
        plan.append(stages)
    return plan


def left(plan: Iterable[Sequence[SweepStage]], finished: set[str]) -> int:
    """How many stage runs are to be done still, given the keys of those that are."""
    keys = {stage.key for stages in plan for stage in stages if stage.action != "done"}
    return len(keys - finished)


def plan_text(runs: Sequence[SweepRun], plan: Sequence[Sequence[SweepStage]]) -> str:
    """One line a run, and the sum."""
    lines = []
    width = max(len(run.config.run.name) for run in runs)
    for run, stages in zip(runs, plan, strict=True):
        cells = [
            f"{stage.name} from {stage.source}"
            if stage.action == "shared"
            else f"{stage.name} {stage.action.upper() if stage.action == 'run' else 'done'}"
            for stage in stages
        ]
        lines.append(f"{run.config.run.name.ljust(width)}  {', '.join(cells)}")

    counts = [sum(s.action == kind for row in plan for s in row) for kind in ("run", "shared")]
    lines.append(
        f"{len(runs)} runs: {counts[0]} stages to run, {counts[1]} shared, "
        f"{sum(map(len, plan)) - sum(counts)} done"
    )
    return "\n".join(lines)
