"""The stages of a run in order, of which audit and repair come once a cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from dart_jax.processes import on_first
from dart_jax.stages import audit, distill, evaluate, repair, teach
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import Cycle


@dataclass(frozen=True)
class PlannedStage:
    """A stage to be run.

    Attributes:
        name: As in `stages/<name>.json`.
        stage: The name it is asked for with, in `--stages`.
        inputs: What its result depends on.
        check: Raises, before anything is touched, for inputs that `execute` would refuse; every
            process calls it.
        execute: Does the work.
        outputs, work: As of `RunDir.stage`.
        cycle: Of audit and repair.
    """

    name: str
    stage: str
    inputs: Callable[[Run], dict[str, Any]]
    check: Callable[[Run], None]
    execute: Callable[[Run], None]
    outputs: tuple[str, ...]
    work: tuple[str, ...]
    cycle: Cycle | None = None


def stages_of(run: Run) -> Iterator[PlannedStage]:
    """Every stage of a run, each made when the ones before are done: a cycle may be the last."""
    cycles = run.config.repair.cycles
    *before, evaluation = planned_stages(cycles)
    for planned in before:
        yield planned
        if planned.stage != "repair" or planned.cycle.number == cycles:
            continue
        if on_first(partial(planned.cycle.repaired_nothing, run.folder.path)):
            number = planned.cycle.number
            print(f"cycle {number} of {cycles} repaired nothing: no further one", flush=True)
            break
    yield evaluation


def planned_stages(cycles: int) -> list[PlannedStage]:
    """The stages where every cycle repairs something."""
    found = [_once("teach", teach), _once("distill", distill)]
    for cycle in map(Cycle, range(1, cycles + 1)):
        found.append(_in_cycle("audit", audit, cycle, ()))
        found.append(_in_cycle("repair", repair, cycle, (f"adapters/{cycle.after}",)))
    return [*found, _once("evaluate", evaluate)]


def _once(name: str, module: Any) -> PlannedStage:
    return PlannedStage(
        name, name, module.inputs, module.check, module.execute, module.OUTPUTS, module.WORK
    )


def _in_cycle(stage: str, module: Any, cycle: Cycle, further: tuple[str, ...]) -> PlannedStage:
    return PlannedStage(
        cycle.stage_name(stage),
        stage,
        partial(module.inputs, cycle=cycle),
        partial(module.check, cycle=cycle),
        partial(module.execute, cycle=cycle),
        (*map(cycle.path, module.OUTPUTS), *further),
        tuple(map(cycle.path, module.WORK)),
        cycle,
    )
