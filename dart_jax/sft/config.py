"""Settings of supervised fine-tuning, shared by the distill and the repair stage."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SftConfig:
    """Optimizer, batches and checkpoints; the defaults are the DART release's.

    Attributes:
        learning_rate: Peak learning rate of the distill stage (repair has its own).
        epochs: Passes over the distill targets (repair has its own).
        batch_size: Examples per optimizer step.
        micro_batch_size: Examples per forward pass; null takes batch_size. Gradients are summed.
        max_length: Longest example in tokens (prompt and completion); a longer one is an error.
        warmup_share: Share of the steps over which the learning rate rises, then a cosine falls.
        weight_decay: Decoupled weight decay (AdamW).
        clip_norm: Global gradient norm limit.
        normaliser: What the loss sum is divided by; weighted_tokens makes weight k equal to k copies.
        loss_chunk: Supervised positions per row that meet the vocabulary at once.
        remat: What the backward pass recomputes: none; projections (all but the matrix products with weights: faster than none on a CPU, a quarter of its memory); layer (everything: least memory, a third slower).
        checkpoint_every: Steps between checkpoints; a crash loses at most these.
    """

    learning_rate: float = 2e-4
    epochs: int = 3
    batch_size: int = 8
    micro_batch_size: int | None = None
    max_length: int = 1024
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    normaliser: Literal["weighted_tokens", "tokens", "examples"] = "weighted_tokens"
    loss_chunk: int = 32
    remat: Literal["none", "projections", "layer"] = "projections"
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "max_length", "loss_chunk", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise ValueError(f"sft.{key}: {getattr(self, key)}; it must be at least 1")
        micro = self.micro_batch_size
        if micro is not None and (micro < 1 or self.batch_size % micro):
            raise ValueError(
                f"sft.micro_batch_size: {micro} does not divide sft.batch_size {self.batch_size}"
            )

    @property
    def micro_batches(self) -> int:
        """Forward passes per optimizer step."""
        return self.batch_size // (self.micro_batch_size or self.batch_size)
