"""Settings of the evaluation."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EvaluateConfig:
    """How the models are asked in the evaluation, and the statistics of the report.

    Attributes:
        policy: The explanation policy in the system prompt of every model, M0 included: without, with, or both (the report's figures are those without it; those with it stand beside them). The audit of the drift pool and training never have it.
        bootstrap_samples: Resamples behind each 95 % interval.
        confidence: Coverage of the intervals.
    """

    policy: Literal["without", "with", "both"] = "without"
    bootstrap_samples: int = 2000
    confidence: float = 0.95
