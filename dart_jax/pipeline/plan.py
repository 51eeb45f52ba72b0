"""The stages of a run in order, of which audit and repair come once a cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from dart_jax.config import STAGES, DartConfig
from dart_jax.processes import on_primary
from dart_jax.stages import audit, distill, evaluate, repair, teach
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import Cycle

SameAnswers = Callable[[Run, Mapping[str, Any], Mapping[str, Any]], Iterable[str]]


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
        ask: The part of `execute` in which a service may be asked, which the dry run goes through;
            None where none is.
        outputs, work: As of `RunDir.stage`.
        same_answers: Names the files that say the same under two sets of recorded inputs; of the
            stages whose answers outlive a change that does not concern them.
        cycle: Of audit and repair.
    """

    name: str
    stage: str
    inputs: Callable[[Run], dict[str, Any]]
    check: Callable[[Run], None]
    execute: Callable[[Run], None]
    ask: Callable[[Run], object] | None
    outputs: tuple[str, ...]
    work: tuple[str, ...]
    same_answers: SameAnswers | None = None
    cycle: Cycle | None = None


def stages_of(run: Run) -> Iterator[PlannedStage]:
    """Every stage of a run, each made when the ones before are done: a cycle may be the last."""
    cycles = run.config.repair.cycles
    *before, evaluation = planned_stages(cycles)
    for planned in before:
        yield planned
        if planned.stage != "repair" or planned.cycle.number == cycles:
            continue
        if on_primary(partial(planned.cycle.repaired_nothing, run.folder.path)):
            number = planned.cycle.number
            print(f"cycle {number} of {cycles} repaired nothing: no further one", flush=True)
            break
    yield evaluation


def planned_stages(cycles: int) -> list[PlannedStage]:
    """The stages where every cycle repairs something."""
    found = [_once("teach", teach, teach.ask), _once("distill", distill)]
    for cycle in map(Cycle, range(1, cycles + 1)):
        same_answers = partial(audit.same_answers, cycle=cycle)
        found.append(_in_cycle("audit", audit, audit.execute, cycle, (), same_answers))
        found.append(_in_cycle("repair", repair, repair.ask, cycle, (f"adapters/{cycle.after}",)))
    return [*found, _once("evaluate", evaluate, evaluate.ask, evaluate.same_answers)]


def unasked_stages(config: DartConfig) -> tuple[str, ...]:
    """List the stages that run without being asked for, since they train and ask nobody.

    Where M_int is given (`model.adapter`, `model.candidate`), distill takes it over, and teach has
    nothing to write unless targets are replayed.
    """
    if config.model.given is None:
        return ()
    return ("distill",) if config.repair.replay else ("teach", "distill")


def due_stages(run: Run, stages: Sequence[str]) -> list[PlannedStage]:
    """List the stages from the first that is not up to date to the last that is asked for.

    Args:
        stages: Those that are asked for, of STAGES.
    """
    last = max(STAGES.index(stage) for stage in stages)
    planned_to_last = takewhile(
        lambda planned: STAGES.index(planned.stage) <= last,
        planned_stages(run.config.repair.cycles),
    )
    wanted = list(planned_to_last)
    names = [planned.name for planned in wanted]

    for planned in stages_of(run):
        if planned.name not in names:
            break
        # Inputs may be files that only an earlier stage writes, so that the manifest comes first.
        manifest = run.folder / f"stages/{planned.name}.json"
        if not manifest.exists() or not run.folder.is_current(planned.name, planned.inputs(run)):
            return wanted[names.index(planned.name) :]
    return []


def _once(
    name: str,
    module: Any,
    ask: Callable[[Run], object] | None = None,
    same_answers: SameAnswers | None = None,
) -> PlannedStage:
    return PlannedStage(
        name=name,
        stage=name,
        inputs=module.inputs,
        check=module.check,
        execute=module.execute,
        ask=ask,
        outputs=module.OUTPUTS,
        work=module.WORK,
        same_answers=same_answers,
    )


def _in_cycle(
    stage: str,
    module: Any,
    ask: Callable[..., object],
    cycle: Cycle,
    further: tuple[str, ...],
    same_answers: SameAnswers | None = None,
) -> PlannedStage:
    """One cycle's stage.

    Args:
        further: Outputs whose names are not those of the first cycle in another folder.
    """
    return PlannedStage(
        name=cycle.stage_name(stage),
        stage=stage,
        inputs=partial(module.inputs, cycle=cycle),
        check=partial(module.check, cycle=cycle),
        execute=partial(module.execute, cycle=cycle),
        ask=partial(ask, cycle=cycle),
        outputs=(*map(cycle.path, module.OUTPUTS), *further),
        work=tuple(map(cycle.path, module.WORK)),
        same_answers=same_answers,
        cycle=cycle,
    )
