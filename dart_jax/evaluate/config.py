"""Settings of the evaluation."""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from dart_jax.settings import BadSetting, Count, Natural, Range, check_fields

Strength = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the test questions' prompts and of the statistics in the report.

    Attributes:
        policy: Whether the system prompt of every model, M0 included, holds the explanation policy: without, with, or both (the report's figures are those without it; those with it stand beside them). Training and the audit of the drift pool never have it.
        forced: Whether to compute, after each test answer's analysis, which of the two conclusion lines the model finds likelier: accuracy with a forced conclusion, AUROC and calibration, at the cost of a forward pass an answer.
        frontier: Strengths between 0 and 1, such as [0.25, 0.5, 0.75]: M0 with that much of M_int's adapter answers the test questions in the same pass and is audited like M_int, so that accuracy and drift of the cheapest defence stand beside M_DART's. Null: none.
        first_tokens: Number of first tokens of M_int's test answers over which KL(M_int || M_DART) is averaged, which tells how far the repair moved other answers than the drifted ones, at the cost of two forward passes an answer; 0 leaves it out.
        bootstrap_samples: Number of resamples behind each interval; enough for one in each tail, such as 40 at a confidence of 0.95.
        confidence: Coverage of the intervals, a share such as 0.95.
    """

    policy: Literal["without", "with", "both"] = "without"
    forced: bool = True
    frontier: tuple[Strength, ...] | None = None
    first_tokens: Natural = 16
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

        strengths = self.frontier
        if strengths is not None and (not strengths or len(set(strengths)) < len(strengths)):
            raise BadSetting(
                f"evaluate.frontier: {list(strengths)}; give one or more strengths, each once, or "
                "null"
            )

    def identity(self) -> dict[str, Any]:
        """Return the settings that can change a figure.

        What was added later is left out at its default, so that earlier runs stay as they are.
        """
        settings = asdict(self)
        if self.frontier is None:
            del settings["frontier"]
        if self.first_tokens == EvaluateConfig.first_tokens:
            del settings["first_tokens"]
        return settings
