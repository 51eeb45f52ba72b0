"""What was planted in a run's targets, as the run records it and its adapters carry it on.

teach/planted.jsonl          the planted faults
teach/unplanted.jsonl        targets that were chosen and could get none
adapters/*/planted_faults.json, and so in every export: `Planting`
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from dart_jax.records import DriftType, Severity, Target, read_jsonl, write_text
from dart_jax.summaries import read_json, to_pretty_json

TARGETS = "teach/targets.jsonl"
PLANTED = "teach/planted.jsonl"
UNPLANTED = "teach/unplanted.jsonl"
"""Files in a run's folder; the last two only where faults are planted."""

MARK = "planted_faults.json"
"""File in the folder of an adapter, or of a model that it was merged into."""


@dataclass(frozen=True)
class DealtFault:
    """The type and severity of all faults that are planted in one benchmark."""

    type: DriftType
    severity: Severity


@dataclass(frozen=True)
class PlantedFault:
    """A fault that was planted in a distill target on purpose, after its quality control.

    Attributes:
        sentence: The sentence that was added; '' for omits, which takes one away.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    question_id: str
    benchmark: str
    type: DriftType
    severity: Severity
    sentence: str


@dataclass(frozen=True)
class UnplantedFault:
    """A target that was chosen to get a fault and could not; it stays as the teacher wrote it."""

    question_id: str
    benchmark: str
    type: DriftType
    severity: Severity
    reason: str


@dataclass(frozen=True)
class BenchmarkPlanting:
    """How many targets of a benchmark got its fault.

    Attributes:
        unplanted: Targets that were chosen and could get none.
    """

    type: DriftType
    severity: Severity
    planted: int
    unplanted: int


@dataclass(frozen=True)
class Planting:
    """What a run planted in its training targets.

    Attributes:
        targets: Number of training targets, with a fault or without.
        benchmarks: The faults by benchmark.
        teachers: Who wrote the targets, such as `rules`, `local` or `openai`.
    """

    targets: int
    benchmarks: dict[str, BenchmarkPlanting]
    teachers: list[str] = field(default_factory=list)

    @property
    def planted(self) -> int:
        """The number of targets with a fault."""
        return sum(benchmark.planted for benchmark in self.benchmarks.values())


def sum_up(
    targets: Sequence[Target],
    faults: Iterable[PlantedFault],
    unplanted: Iterable[UnplantedFault],
) -> Planting:
    """Count by benchmark what was planted in these targets, and what could not be."""
    dealt: dict[str, DealtFault] = {}
    planted: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for counts, found in ((planted, faults), (left, unplanted)):
        for fault in found:
            # Where no target of a benchmark could get its fault, `unplanted` alone tells it.
            dealt[fault.benchmark] = DealtFault(fault.type, fault.severity)
            counts[fault.benchmark] += 1

    benchmarks = {}
    for name, fault in sorted(dealt.items()):
        benchmarks[name] = BenchmarkPlanting(fault.type, fault.severity, planted[name], left[name])
    # Without the model's name, which may be that of a folder.
    teachers = sorted({target.provider.split(":")[0] for target in targets})
    return Planting(len(targets), benchmarks, teachers)


def read_planting(run: Path) -> Planting | None:
    """Sum up what a run planted in its targets; None where it planted nothing.

    Where an adapter from elsewhere was audited, what that says of itself.

    Args:
        run: The run's folder, its stage teach done.
    """
    if not (run / PLANTED).exists():
        return read_mark(run / "adapters/M_int")
    targets = read_jsonl(run / TARGETS, Target)
    faults = read_jsonl(run / PLANTED, PlantedFault)
    return sum_up(targets, faults, read_jsonl(run / UNPLANTED, UnplantedFault))


def mark_model(folder: Path, planting: Planting | None) -> None:
    """Leave word of what was planted beside an adapter's or a model's weights."""
    if planting is not None:
        write_text(folder / MARK, to_pretty_json(planting))


def read_mark(folder: Path) -> Planting | None:
    """Read what was planted in a model's training targets; None where nothing says so."""
    path = folder / MARK
    return read_json(path, Planting) if path.exists() else None
