"""The steps of a run in order: the stages, of which audit and repair come once a cycle."""

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
class Step:
    """A stage to be run.

    Attributes:
        name: As in `stages/<name>.json`.
        stage: The name it is asked for with, in `--stages`.
        inputs: What its result depends on.
        execute: Does the work.
        outputs, work: As of `RunDir.stage`.
    """

    name: str
    stage: str
    inputs: Callable[[Run], dict[str, Any]]
    execute: Callable[[Run], None]
    outputs: tuple[str, ...]
    work: tuple[str, ...]


def steps(run: Run) -> Iterator[Step]:
    """Every step of a run, each made when the ones before are done: a cycle may be the last."""
    for name, module in (("teach", teach), ("distill", distill)):
        yield Step(name, name, module.inputs, module.execute, module.OUTPUTS, module.WORK)
    number, planned = 1, run.config.repair.cycles
    while True:
        cycle = Cycle(number)
        yield _in_cycle("audit", audit, cycle, ())
        yield _in_cycle("repair", repair, cycle, (f"adapters/{cycle.after}",))
        if number == planned:
            break
        if on_first(partial(cycle.repaired_nothing, run.folder.path)):
            print(f"cycle {number} of {planned} repaired nothing: no further one", flush=True)
            break
        number += 1
    yield Step(
        "evaluate",
        "evaluate",
        evaluate.inputs,
        evaluate.execute,
        evaluate.OUTPUTS,
        evaluate.WORK,
    )


def _in_cycle(stage: str, module: Any, cycle: Cycle, further: tuple[str, ...]) -> Step:
    return Step(
        cycle.step(stage),
        stage,
        partial(module.inputs, cycle=cycle),
        partial(module.execute, cycle=cycle),
        (*map(cycle.path, module.OUTPUTS), *further),
        tuple(map(cycle.path, module.WORK)),
    )
