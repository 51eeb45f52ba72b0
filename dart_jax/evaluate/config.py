"""Settings of the evaluation."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from dart_jax.settings import BadSetting, Count, Range, check_fields


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the test questions' prompts and of the statistics in the report.

    Attributes:
        policy: Whether the system prompt of every model, M0 included, holds the explanation policy: without, with, or both (the report's figures are those without it; those with it stand beside them). Training and the audit of the drift pool never have it.
        forced: Whether to compute, after each test answer's analysis, which of the two conclusion lines the model finds likelier: accuracy with a forced conclusion, AUROC and calibration, at the cost of a forward pass an answer.
        bootstrap_samples: Number of resamples behind each interval; enough for one in each tail, such as 40 at a confidence of 0.95.
        confidence: Coverage of the intervals, a share such as 0.95.
    """

    policy: Literal["without", "with", "both"] = "without"
    forced: bool = True
    bootstrap_samples: Count = 2000
    confidence: Annotated[float, Range(above=0, below=1)] = 0.95

    def __post_init__(self) -> None:
        check_fields(self, "evaluate")

        # The tolerance keeps 0.95 at 40: 2 / (1 - 0.95) is a little above it in floating point.
        least = math.ceil(2 / (1 - self.confidence) - 1e-6)
        if self.bootstrap_samples < least:
            raise BadSetting(
                f"evaluate.bootstrap_samples: {self.bootstrap_samples}; an interval of confidence "
                f"{self.confidence} needs {least} or more, for a sample in each tail"
            )
