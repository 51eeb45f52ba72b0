"""Settings of the evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluateConfig:
    """Statistics of the report.

    Attributes:
        bootstrap_samples: Resamples behind each 95 % interval.
        confidence: Coverage of the intervals.
    """

    bootstrap_samples: int = 2000
    confidence: float = 0.95
