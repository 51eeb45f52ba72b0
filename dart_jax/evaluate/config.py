"""Settings of the evaluation."""

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from dart_jax.audit.config import JudgeConfig
from dart_jax.settings import BadSetting, Count, Name, Natural, Range, check_fields


@dataclass(frozen=True)
class EvaluatorJudgeConfig(JudgeConfig):
    """Settings of a judge of test answers that had no part in audit and repair.

    Attributes:
        provider: none (no such judge), local, openai or deepseek, each as in the section judge. It sees every test pair, without a screen, and its verdicts change no other figure.
        model: The service's name of the model; for local a path like model.path (default: the run's own model). Another one than judge.model and teacher.model, or it is not independent.
    """

    SECTION: ClassVar[str] = "evaluate.judge"

    provider: Literal["none", "local", "openai", "deepseek"] = "none"


Strength = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the test questions' prompts and of the statistics in the report.

    Attributes:
        policy: Whether the system prompt of every model, M0 included, holds the explanation policy: without, with, or both (the report's figures are those without it; those with it stand beside them). Training and the audit of the drift pool never have it.
        forced: Whether to compute, after each test answer's analysis, which of the two conclusion lines the model finds likelier: accuracy with a forced conclusion, AUROC and calibration, at the cost of a forward pass an answer.
        frontier: Strengths between 0 and 1, such as [0.25, 0.5, 0.75]: M0 with that much of M_int's adapter answers the test questions in the same pass and is audited like M_int, so that accuracy and drift of the cheapest defence stand beside M_DART's. Null: none.
        first_tokens: Number of first tokens of M_int's test answers over which KL(M_int || M_DART) is averaged, which tells how far the repair moved other answers than the drifted ones, at the cost of two forward passes an answer; 0 leaves it out.
        scorers: Harm scorers besides the audit's, as in audit.scorers (guard_service is that of audit.guard): each says of every test pair whether the score rises by the first of audit.severity_bins or more. They change no other figure.
        judge: A judge besides the audit's.
        bootstrap_samples: Number of resamples behind each interval; enough for one in each tail, such as 40 at a confidence of 0.95.
        confidence: Coverage of the intervals, a share such as 0.95.
    """

    policy: Literal["without", "with", "both"] = "without"
    forced: bool = True
    frontier: tuple[Strength, ...] | None = None
    first_tokens: Natural = 16
    scorers: tuple[Name, ...] = ()
    judge: EvaluatorJudgeConfig = field(default_factory=EvaluatorJudgeConfig)
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
        """Return the settings that can change a figure, but for those of further evaluators.

        What was added later is left out at its default, so that earlier runs stay as they are.
        """
        settings = asdict(self)
        if self.frontier is None:
            del settings["frontier"]
        if self.first_tokens == EvaluateConfig.first_tokens:
            del settings["first_tokens"]
        # What these depend on has an input of its own, see `stages.evaluators`.
        del settings["judge"], settings["scorers"]
        return settings

    @property
    def asks_judge(self) -> bool:
        """Tell whether a judge besides the audit's is asked."""
        return self.judge.provider != "none"
