"""Running a job's variants in workers: the check, the tuning, and the rounds that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dart_jax.bench.job import AnyRound, AnyVariant, write_job
from dart_jax.bench.worker import Worker, WorkerDied

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """What one variant did.

    Attributes:
        description: See `Session.describe`.
        setup_seconds: Start, loading, compilation and first steps.
        matmul_rate: See `Session.matmul_rate`.
    """

    variant: AnyVariant
    description: dict[str, Any]
    setup_seconds: float
    matmul_rate: float
    rounds: list[AnyRound] = field(default_factory=list)


def untimed(
    job: Any, variants: Sequence[AnyVariant], rounds: int, folder: Path
) -> list[list[AnyRound]]:
    """The rounds of a small job, for each variant; nobody is timed, so all load at once."""
    path = folder / "check.json"
    write_job(job, path)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(path, variant, folder)) for variant in variants]
        return [[worker.round(epoch) for epoch in range(rounds)] for worker in workers]


def tune(
    job: Any, variants: Sequence[AnyVariant], folder: Path, say: Say
) -> tuple[list[Measured], dict[str, str]]:
    """One round of each variant, one after the other, each alone on the machine.

    Returns:
        Those that worked, and by name the reason why others did not: a variant that needs more
        memory than there is takes no part, and is reported.

    Raises:
        WorkerDied: Not one worked.
    """
    path = folder / "tune.json"
    write_job(job, path)
    measured, failed = [], {}
    for variant in variants:
        try:
            [one] = alternate(path, [variant], 1, folder)
        except WorkerDied as error:
            failed[variant.name] = str(error)
            say(f"  {variant.name}: failed; {error}")
            continue
        say(f"  {variant.name}: {one.rounds[0].seconds:.1f} s")
        measured.append(one)
    if not measured:
        raise WorkerDied("\n".join(failed.values()))
    return measured, failed


def alternate(
    job: Path, variants: Sequence[AnyVariant], rounds: int, folder: Path, say: Say = lambda _: None
) -> list[Measured]:
    """Rounds in turn: each variant's first, each one's second, ...; the others sleep."""
    with ExitStack() as stack:
        workers, found = [], []
        for variant in variants:
            started = time.perf_counter()
            worker = stack.enter_context(Worker(job, variant, folder))
            description = worker.describe()
            worker.warm_up()
            seconds = time.perf_counter() - started
            workers.append(worker)
            found.append(Measured(variant, description, seconds, worker.matmul_rate()))
        for epoch in range(rounds):
            for worker, measured in zip(workers, found, strict=True):
                one = worker.round(epoch)
                measured.rounds.append(one)
                say(
                    f"  round {epoch + 1}, {worker.variant.name}: {one.seconds:.1f} s, "
                    f"{one.report()}"
                )
    return found
