"""Settings of decoding, identical for every model of a comparison."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dart_jax.settings import Count, Natural, NotNegative, PositiveShare, check_fields


@dataclass(frozen=True)
class DecodeConfig:
    """Sampling and batching; temperature and top-p are the DART release's.

    Attributes:
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Nucleus: the fewest most likely tokens that hold this probability (1 = all).
        top_k: Only so many of the most likely tokens are candidates (0 = all).
        max_new_tokens: An answer is cut off here if the model has not ended its turn.
        slots: Rows decoded together, of all models; a finished row makes room for the next prompt. auto is 32, or on GPUs, for each that rows are spread over, 128, 64 or 32, as its memory has room for.
    """

    temperature: NotNegative = 0.2
    top_p: PositiveShare = 0.9
    top_k: Natural = 0
    max_new_tokens: Count = 256
    slots: Count | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "decode")

    def identity(self) -> dict[str, Any]:
        """The settings that can change an answer: an answer does not depend on its neighbours."""
        settings = asdict(self)
        del settings["slots"]
        return settings
