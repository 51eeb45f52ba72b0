"""What both sides of a decoding benchmark do; see `job` for what all benchmarks share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

BASE, ADAPTED = "M0", "adapter"
"""The two models that answer every prompt."""


@dataclass(frozen=True)
class BenchPrompt:
    """A question's token ids; `id` keys our noise."""

    id: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class GenerateJob:
    """One benchmark's work under one rule of stopping; a round answers every prompt twice.

    Attributes:
        model: Hugging Face folder of the base weights and the tokenizer.
        adapter: PEFT folder.
        prompts: In any order of lengths.
        new_tokens: Of every answer exactly this many; with `natural_stops` at most.
        natural_stops: Answers end at a stop token, too.
        temperature: 0 decodes greedily.
        top_p: Nucleus, for a temperature above 0.
        seed: Of the noise.
    """

    model: str
    adapter: str
    prompts: tuple[BenchPrompt, ...]
    new_tokens: int
    natural_stops: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class GenerateVariant:
    """One way to run the job.

    Attributes:
        framework: ours: both models' rows in one call. hf: transformers' generate for the base,
            then for the base with the adapter merged in, one model in memory. release: the
            same with both models in memory, as the authors' release has them.
        dtype: Of the base weights and of the computation.
        rows: Decoded together: our slots, the peer's batch size.
    """

    task: ClassVar[str] = "generate"

    framework: Literal["ours", "hf", "release"]
    dtype: Literal["float32", "bfloat16"]
    rows: int

    @property
    def name(self) -> str:
        """For tables and keys: `hf-bfloat16-b8`."""
        return f"{self.framework}-{self.dtype}-b{self.rows}"


@dataclass(frozen=True)
class Answer:
    """New tokens, without the stop token; with `stop` as `records.StopReason`."""

    tokens: tuple[int, ...]
    stop: str


@dataclass(frozen=True)
class PairsRound:
    """Every prompt answered by both models, once.

    Attributes:
        seconds: Wall time of prefill and decoding, until the tokens are on the host.
        answers: By model, in the order of the job's prompts.
        peak_rss_bytes: Largest resident memory of the process so far.
        peak_device_bytes: Largest accelerator memory so far; None on a CPU.
    """

    seconds: float
    answers: dict[str, tuple[Answer, ...]]
    peak_rss_bytes: int
    peak_device_bytes: int | None

    @property
    def pairs(self) -> int:
        """Prompts that both models answered."""
        return len(self.answers[BASE])

    @property
    def new_tokens(self) -> int:
        """Of all answers."""
        return sum(len(answer.tokens) for rows in self.answers.values() for answer in rows)

    @property
    def stops(self) -> dict[str, dict[str, int]]:
        """How often each reason ended an answer, by model."""
        return {
            name: dict(Counter(answer.stop for answer in rows))
            for name, rows in self.answers.items()
        }

    def report(self) -> str:
        """For a line of progress."""
        return (
            f"{self.pairs / self.seconds:.3f} pairs/s, "
            f"{self.new_tokens / self.seconds:.1f} new tokens/s"
        )
