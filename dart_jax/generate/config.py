"""Settings of decoding, identical for every model of a comparison."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecodeConfig:
    """Sampling and batching; temperature and top-p are the DART release's.

    Attributes:
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Nucleus: the fewest most likely tokens that hold this probability (1 = all).
        top_k: Only so many of the most likely tokens are candidates (0 = all).
        max_new_tokens: An answer is cut off here if the model has not ended its turn.
        slots: Rows decoded together, of all models; a finished row makes place for the next prompt.
    """

    temperature: float = 0.2
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 256
    slots: int = 32

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"decode.temperature: {self.temperature}; it must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"decode.top_p: {self.top_p}; it must be in (0, 1]")
        if self.top_k < 0:
            raise ValueError(f"decode.top_k: {self.top_k}; it must not be negative")
        for key in ("max_new_tokens", "slots"):
            if getattr(self, key) < 1:
                raise ValueError(f"decode.{key}: {getattr(self, key)}; it must be at least 1")
