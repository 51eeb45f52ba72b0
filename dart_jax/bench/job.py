"""What both sides of a training benchmark do: one file that every process reads.

`Session`, `AnyVariant` and `AnyRound` are what any benchmark's workers have in common; those of
decoding are in `generate_job`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import TypeAdapter

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.records import write_text
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """The work of one benchmark, the same for every variant.

    Attributes:
        model: Hugging Face folder of the base weights, or a shape to fill with random ones.
        adapter: PEFT folder that training starts from; None starts from a fresh one.
        examples: Already tokenised; of weight 1, the only weight that the peers know.
        lora: Adapter settings.
        sft: Optimizer and batches; one round is one of its epochs.
        learning_rates: One for each optimizer step of all epochs.
        seed: Of the order of the examples and of dropout.
    """

    model: str | LlamaConfig
    adapter: str | None
    examples: tuple[Example, ...]
    lora: LoraConfig
    sft: SftConfig
    learning_rates: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        weighted = [example.id for example in self.examples if example.weight != 1.0]
        if weighted:
            raise ValueError(
                f"{weighted[0]}: its weight is not 1, and the peers train unweighted examples only"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one round; the last may be short."""
        return -(-len(self.examples) // self.sft.batch_size)


@dataclass(frozen=True)
class Variant:
    """One way to run the job.

    Attributes:
        framework: ours, or hf: transformers with PEFT.
        dtype: Of the base weights and of the computation; adapters are float32 on both sides.
        micro_batch: Examples per forward pass; None: all of a step (ours only).
        remat: As `sft.remat`; for hf, layer is its gradient checkpointing and none is without.
    """

    task: ClassVar[str] = "train"

    framework: Literal["ours", "hf"]
    dtype: Literal["float32", "bfloat16"]
    micro_batch: int | None = None
    remat: Literal["none", "projections", "layer"] | None = None

    @property
    def name(self) -> str:
        """For tables and keys: `hf-bfloat16-b8`."""
        parts = [self.framework, self.dtype]
        parts += [f"b{self.micro_batch}"] if self.micro_batch else []
        parts += [f"remat_{self.remat}"] if self.remat else []
        return "-".join(parts)


@dataclass(frozen=True)
class Round:
    """One timed epoch.

    Attributes:
        seconds: Wall time from the first batch to the last update, device work included.
        loss: Mean cross-entropy over the supervised tokens of the epoch, with dropout.
        examples: Trained on.
        real_tokens: Sum of their lengths.
        padded_tokens: Positions computed. A shared prefix counts once a row, so that this may be
            less than `real_tokens`.
        supervised_tokens: Positions with a loss.
        peak_rss_bytes: Largest resident memory of the process so far.
        peak_device_bytes: Largest accelerator memory so far; None on a CPU.
    """

    seconds: float
    loss: float
    examples: int
    real_tokens: int
    padded_tokens: int
    supervised_tokens: int
    peak_rss_bytes: int
    peak_device_bytes: int | None

    def report(self) -> str:
        """For a line of progress."""
        return f"{self.examples / self.seconds:.3f} examples/s, loss {self.loss:.4f}"


class AnyVariant(Protocol):
    """A variant of any benchmark; a dataclass. `task` is a key of `worker.TASKS`."""

    task: ClassVar[str]

    @property
    def framework(self) -> str: ...

    @property
    def name(self) -> str: ...


class AnyRound(Protocol):
    """A timed round of any benchmark; a dataclass."""

    @property
    def seconds(self) -> float: ...

    def report(self) -> str: ...


class Session(Protocol):
    """One variant, loaded; a worker process holds exactly one."""

    def describe(self) -> dict[str, Any]:
        """Settings that the variant's name does not tell, and the device."""

    def warm_up(self) -> None:
        """Compile and touch memory; leaves the adapter as it was."""

    def round(self, epoch: int) -> AnyRound:
        """Train one epoch, or answer every prompt once; timed."""

    def matmul_rate(self) -> float:
        """Measured floating-point operations a second of one large matrix product."""


def write_job(job: Any, path: Path) -> None:
    """Write the job of a benchmark, a dataclass, as JSON."""
    write_text(path, json.dumps(dataclasses.asdict(job)))


def read_as(kind: type[T], text: str) -> T:
    """A job or a variant from its JSON form."""
    return TypeAdapter(kind).validate_json(text)


def example_counts(examples: tuple[Example, ...]) -> dict[str, int]:
    """The part of a `Round` that follows from its examples."""
    lengths = [len(example.tokens) for example in examples]
    return {
        "examples": len(examples),
        "real_tokens": sum(lengths),
        "supervised_tokens": sum(lengths) - sum(example.prompt_length for example in examples),
    }
