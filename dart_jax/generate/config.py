"""Settings of decoding, identical for every model of a comparison."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecodeConfig:
    """Sampling and batching; temperature and top-p are the DART release's.

    Attributes:
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Nucleus: the fewest most likely tokens that hold this probability (1 = all).
        max_new_tokens: Decoding stops here if neither EOS nor a conclusion line came.
        batch_size: Prompts decoded together.
    """

    temperature: float = 0.2
    top_p: float = 0.9
    max_new_tokens: int = 256
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"decode.temperature: {self.temperature}; it must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"decode.top_p: {self.top_p}; it must be in (0, 1]")
        for key in ("max_new_tokens", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"decode.{key}: {getattr(self, key)}; it must be at least 1")
