"""Settings of the evaluation."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from dart_jax.settings import BadSetting, Count, Range, check_fields


@dataclass(frozen=True)
class EvaluateConfig:
    """How the models are asked in the evaluation, and the statistics of the report.

    Attributes:
        policy: The explanation policy in the system prompt of every model, M0 included: without, with, or both (the report's figures are those without it; those with it stand beside them). The audit of the drift pool and training never have it.
        bootstrap_samples: Resamples behind each interval; at least one in each tail, such as 40 at a confidence of 0.95.
        confidence: Coverage of the intervals, a share such as 0.95.
    """

    policy: Literal["without", "with", "both"] = "without"
    bootstrap_samples: Count = 2000
    confidence: Annotated[float, Range(above=0, below=1)] = 0.95

    def __post_init__(self) -> None:
        check_fields(self, "evaluate")
        least = math.ceil(2 / (1 - self.confidence) - 1e-6)
        if self.bootstrap_samples < least:
            raise BadSetting(
                f"evaluate.bootstrap_samples: {self.bootstrap_samples}; an interval of confidence "
                f"{self.confidence} needs {least} or more, for a sample in each tail"
            )
