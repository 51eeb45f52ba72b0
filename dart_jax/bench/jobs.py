"""The work of a benchmark as plain data: what a worker process is given, and what it reports.

A job is the same for all variants of a benchmark; a variant is one way to do it; a round is the
job done once, or one epoch of it, with its time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar, Literal

from dart_jax.bench.options import Packing, Peer, PeerKind
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import LoraConfig
from dart_jax.records import StopReason
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example

BASE, ADAPTED = "M0", "adapter"
"""The two models that answer every prompt."""


@dataclass(frozen=True)
class PeerSettings:
    """Settings with which PEFT trains.

    Attributes:
        supervised_logits: Project only the positions that have a loss onto the vocabulary.
        autocast: Compute under `torch.autocast` in bfloat16, whatever the weights' type is.
        adapter_in_dtype: Keep the adapters in the type of the base weights, not in float32.
        packed: Several examples share a row, apart from each other by the attention mask.
        compiled: Each layer through `torch.compile`.
    """

    supervised_logits: bool = True
    autocast: bool = False
    adapter_in_dtype: bool = False
    packed: bool = False
    compiled: bool = False


PEER_KINDS: dict[PeerKind, PeerSettings] = {
    "plain": PeerSettings(supervised_logits=False),
    "supervised": PeerSettings(),
    "autocast": PeerSettings(autocast=True),
    "adapter": PeerSettings(adapter_in_dtype=True),
    "packed": PeerSettings(adapter_in_dtype=True, packed=True),
    "compiled": PeerSettings(adapter_in_dtype=True, compiled=True),
    "packed_compiled": PeerSettings(adapter_in_dtype=True, packed=True, compiled=True),
}


@dataclass(frozen=True)
class Variant:
    """One way to do a job.

    Attributes:
        framework: hf_continuous and hf_mixed are other ways of transformers to decode, see
            `hf_generate`; release is hf with both models in memory, as the authors' release
            decodes; whole_leaves is the peer of `bench load`.
        dtype: Of the base weights and of the computation; adapters are float32 on both sides.
        batch: Training: examples per forward pass, None for all of a step (ours only). Decoding:
            answers in progress at once, our slots or the peer's batch size.
        remat: As `sft.remat`; for hf, layer is its gradient checkpointing and none is without.
        packing: Training, ours: as `sft.packing`; None is that of the job.
        kind: Training, hf: how it trains.
    """

    framework: Literal["ours", "release", "whole_leaves"] | Peer
    dtype: Literal["float32", "bfloat16"]
    batch: int | None = None
    remat: Literal["none", "projections", "layer"] | None = None
    packing: Packing | None = None
    kind: PeerKind = "plain"

    @property
    def name(self) -> str:
        """For tables and keys: `hf-bfloat16-b8-packed`."""
        parts = [self.framework, self.dtype]
        parts += [f"b{self.batch}"] if self.batch else []
        parts += [f"remat_{self.remat}"] if self.remat else []
        parts += [self.packing] if self.packing else []
        parts += [self.kind] if self.kind != "plain" else []
        return "-".join(parts)

    @property
    def settings(self) -> PeerSettings:
        """Settings of the peer's kind."""
        return PEER_KINDS[self.kind]


@dataclass(frozen=True)
class Epoch:
    """Mean cross-entropy over the supervised tokens, with dropout, and the positions computed.

    A shared prefix counts once a row, so that these may be fewer than the examples' tokens.
    """

    loss: float
    padded_tokens: int


@dataclass(frozen=True)
class Answers:
    """New tokens, and why they end (`records.StopReason`), by model in the order of the prompts."""

    tokens: dict[str, list[list[int]]]
    stops: dict[str, list[str]]

    @property
    def new_tokens(self) -> int:
        """Number of tokens in all answers."""
        return sum(len(row) for rows in self.tokens.values() for row in rows)


@dataclass(frozen=True)
class Round:
    """A job done once.

    Attributes:
        seconds: Wall time until the result is on the host, device work included.
        result: What was done; of loading, its size and fingerprint.
        peak_rss_bytes: Largest resident memory of the process so far.
        peak_device_bytes: Largest accelerator memory so far; None on a CPU.
    """

    seconds: float
    result: Any
    peak_rss_bytes: int
    peak_device_bytes: int | None


@dataclass(frozen=True)
class TrainJob:
    """Training on the same examples; a round is an epoch.

    Attributes:
        model: Hugging Face folder of the base weights, or a shape to fill with random ones.
        adapter: PEFT folder that training starts from; None starts from a fresh one.
        examples: Already tokenised; of weight 1, the only weight that the peers know.
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

    rate: ClassVar[str] = "examples_per_second"

    def __post_init__(self) -> None:
        weighted = [example.id for example in self.examples if example.weight != 1.0]
        if weighted:
            raise ValueError(
                f"{weighted[0]}: its weight is not 1, and the peers train unweighted examples only"
            )

    @property
    def amount(self) -> int:
        """Examples in a round."""
        return len(self.examples)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one round; the last may be short."""
        return -(-self.amount // self.sft.batch_size)

    def numbers(self, variant: Variant, rounds: Sequence[Round]) -> dict[str, Any]:
        """Token rates and losses of a variant; raises RuntimeError for a loss that is no number."""
        losses = [one.result.loss for one in rounds]
        if not all(math.isfinite(loss) for loss in losses):
            raise RuntimeError(f"{variant.name}: its losses are {losses}")
        per_second = median(1 / one.seconds for one in rounds)
        padded_per_second = median(one.result.padded_tokens / one.seconds for one in rounds)
        real = sum(len(example.tokens) for example in self.examples)
        return {
            "micro_batch": variant.batch,
            "real_tokens_per_second": real * per_second,
            "padded_tokens_per_second": padded_per_second,
            "supervised_tokens_per_second": supervised_tokens(self.examples) * per_second,
            "losses": losses,
            "last_loss": losses[-1],
        }


@dataclass(frozen=True)
class DecodeJob:
    """Answering every prompt with M0 and with an adapter, under one rule of stopping.

    Attributes:
        model: Hugging Face folder of the base weights and the tokenizer.
        adapter: PEFT folder.
        prompts: Token ids by the id that keys our noise.
        new_tokens: Tokens of every answer; with `natural_stops` at most so many.
        natural_stops: Answers end at a stop token, too.
        temperature: 0 decodes greedily.
        top_p: Nucleus, for a temperature above 0.
        seed: Of the noise.
    """

    model: str
    adapter: str
    prompts: dict[str, tuple[int, ...]]
    new_tokens: int
    natural_stops: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    rate: ClassVar[str] = "pairs_per_second"

    @property
    def amount(self) -> int:
        """Pairs of answers in a round."""
        return len(self.prompts)

    def numbers(self, variant: Variant, rounds: Sequence[Round]) -> dict[str, Any]:
        """Token rates and stops; raises RuntimeError where a fixed number was not kept."""
        counts = [one.result.new_tokens for one in rounds]
        expected = 2 * self.amount * self.new_tokens
        if not self.natural_stops and any(count != expected for count in counts):
            raise RuntimeError(f"{variant.name}: {counts} new tokens in a round, not {expected}")
        rates = [count / one.seconds for count, one in zip(counts, rounds, strict=True)]
        stops = rounds[0].result.stops
        return {
            "rows": variant.batch,
            "new_tokens_per_second": median(rates),
            "new_tokens_per_answer": median(counts) / self.amount / 2,
            "stops": {model: dict(Counter(reasons)) for model, reasons in stops.items()},
        }


def supervised_tokens(examples: Sequence[Example]) -> int:
    """Positions with a loss."""
    return sum(len(example.tokens) - example.prompt_length for example in examples)


def cut(
    rows: Sequence[Sequence[int]], stop_ids: Sequence[int]
) -> tuple[list[list[int]], list[str]]:
    """Answers without what follows their end (a finished row is filled up), and why they ended.

    Args:
        stop_ids: None of them: every answer has the length that was asked for.
    """
    answers, reasons = [], []
    for row in rows:
        end = next((i for i, token in enumerate(row) if token in stop_ids), None)
        answers.append(list(row[:end]))
        reasons.append(StopReason.LENGTH.value if end is None else StopReason.EOS.value)
    return answers, reasons
