"""Audit and repair more than once (`repair.cycles`): which cycle works on what, and where.

    cycle 1   M_int    audit/            repair/            -> adapters/M_DART       (the paper's)
    cycle 2   M_DART   cycles/2/audit/   cycles/2/repair/   -> adapters/M_DART_2
    cycle 3   M_DART_2 cycles/3/...

Each cycle audits the model that the one before left, against M0 and on the same pool, and trains
it on from there. A cycle that repairs nothing leaves the model as it was and is the last: the next
would find the same. Nothing else ends the loop, and no accuracy is looked at in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dart_jax.evaluate.models import AUDITED
from dart_jax.run_dir import hash_path


@dataclass(frozen=True)
class Cycle:
    """One round of audit and repair; `number` counts from 1."""

    number: int

    @property
    def before(self) -> str:
        """The model that is audited and trained on."""
        return "M_int" if self.number == 1 else Cycle(self.number - 1).after

    @property
    def after(self) -> str:
        """The model that the repair leaves."""
        return "M_DART" if self.number == 1 else f"M_DART_{self.number}"

    def stage_name(self, stage: str) -> str:
        """The name of a stage in this cycle, as in `stages/<name>.json`."""
        return stage if self.number == 1 else f"{stage}_{self.number}"

    def path(self, name: str) -> str:
        """A file of a stage in this cycle, relative to the run: `audit/...` or `repair/...`."""
        return name if self.number == 1 else f"cycles/{self.number}/{name}"

    def repaired_nothing(self, folder: Path) -> bool:
        """Tell whether the finished repair left the model as it was."""
        # A repair that trains nothing copies the adapter: equal hashes tell.
        before, after = (folder / f"adapters/{name}" for name in (self.before, self.after))
        return hash_path(before) == hash_path(after)


FIRST = Cycle(1)


def cycles_run(folder: Path, planned: int) -> Iterator[Cycle]:
    """The cycles to run or already run, in order, up to `planned` or the first without repair.

    Asked for the next one, it looks at what the last has left.
    """
    for number in range(1, planned + 1):
        yield Cycle(number)
        if Cycle(number).repaired_nothing(folder):
            return


def later_models(folder: Path, planned: int) -> list[str]:
    """The models of the cycles after the first, as far as they differ from the ones before."""
    cycles = [cycle for cycle in cycles_run(folder, planned) if cycle.number > 1]
    return [cycle.after for cycle in cycles if not cycle.repaired_nothing(folder)]


def audited_models(folder: Path, planned: int) -> list[str]:
    """The models that the evaluation audits against M0: after distillation, and of each cycle."""
    return [*AUDITED, *later_models(folder, planned)]


def audited_adapters(folder: Path, planned: int) -> list[str | None]:
    """Hash the adapters of `audited_models`, by which the evaluation's inputs know the models."""
    return [hash_path(folder / f"adapters/{name}") for name in audited_models(folder, planned)]
