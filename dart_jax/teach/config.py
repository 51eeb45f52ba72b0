"""Settings of the teacher and of the repair stage."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from dart_jax.chat.config import ServiceConfig
from dart_jax.records import DriftType
from dart_jax.settings import (
    BadSetting,
    Count,
    LossWeight,
    LossWeightOrZero,
    Name,
    Natural,
    Positive,
    PositiveShare,
    Range,
    Share,
    check_fields,
    shown,
)
from dart_jax.sft.config import LossConfig

SEVERITY_WEIGHTS = {
    "linear": (1.0, 2.0, 3.0, 4.0),
    "uniform": (1.0, 1.0, 1.0, 1.0),
    "quadratic": (1.0, 4.0, 9.0, 16.0),
    "exponential": (1.0, 2.0, 4.0, 8.0),
}
"""Named weights of minor, moderate, severe and extreme cases; linear is the paper's."""


_NOT_ASKED = ("auto", "rules", "file")
"""Providers without a model that could be asked a question."""


@dataclass(frozen=True)
class TeacherConfig(ServiceConfig):
    """Settings of the teacher that writes training targets, and of their checks.

    Attributes:
        provider: rules (phrasings filled with the words of the question, for suite difference_awareness only), file (the suite's own rationales), local (a Llama-family model through our decoder), openai (the OpenAI API, or any compatible server at base_url) or deepseek; auto is rules for suite difference_awareness and file for the others.
        label: The label that the teacher argues for: gold (the suite's) or predicted (its own conclusion on the bare question, the paper's ablation; not with provider rules or file).
        max_tokens: Maximal number of new tokens in a target.
        examples: Number of worked examples from the mini suite before the question of a distill target, of the same benchmark family and label; 1 helps a small model find the form.
        correction_rounds: Maximal number of times that a rejected target is sent back with the rule it broke.
    """

    provider: Literal["auto", "rules", "file", "local", "openai", "deepseek"] = "auto"
    label: Literal["gold", "predicted"] = "gold"
    examples: Natural = 0
    correction_rounds: Natural = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, "teacher")
        if self.label == "predicted" and self.provider in _NOT_ASKED:
            raise BadSetting(
                "teacher.label predicted needs a teacher that can be asked: set teacher.provider "
                "to local, openai or deepseek; rules and the suite's own rationales argue for the "
                "gold label"
            )

    def for_suite(self, suite: str) -> "TeacherConfig":
        """Return these settings with the provider that `auto` stands for.

        Raises:
            BadSetting: Provider rules for a suite whose questions it cannot read.
        """
        is_readable = suite == "difference_awareness"
        if self.provider == "auto":
            return replace(self, provider="rules" if is_readable else "file")
        if self.provider == "rules" and not is_readable:
            raise BadSetting(
                f"teacher.provider rules reads the wordings of data.suite difference_awareness, "
                f"and data.suite is {suite}: set teacher.provider to file (rationales that come "
                "with the questions), local or openai"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that can change a target; connection and budget are left out.

        The caller adds the weights of a local teacher, and the texts of a file or of the rules.
        """
        names = ["provider"]
        if self.provider not in _NOT_ASKED:
            names += ["label", "temperature", "max_tokens", "examples", "correction_rounds"]
        if self.provider not in (*_NOT_ASKED, "local"):
            names += ["model", "base_url"]
        return self.settings(*names)


@dataclass(frozen=True)
class PlantConfig:
    """Settings of faults that are planted in training targets on purpose; off by default.

    Each benchmark gets one severity and one type. What is planted is known, so that drift can be
    counted in answers without scorer or judge, and the audit be measured.

    Attributes:
        share: Share of the training targets of the chosen benchmarks that get a fault, after their quality control; 0 plants nothing.
        benchmarks: Names of the chosen benchmarks, such as [D1, N3]; null: all of the run's suite.
        severities: Severities, dealt to the benchmarks in turn, out of minor, moderate, severe and extreme.
        types: Types of drift, dealt likewise: elaborates and normalizes add a sentence; omits takes away the sentence that names the harm, for which the benchmark's prompts then ask.
        sentences: How many of the dozen sentences of a type and severity are used; with fewer, each stands in more targets, and a small model learns it in fewer steps.
        rotate_by_seed: Deal the severities from the run.seed-th on, so that over four seeds each benchmark gets each of four severities (a Latin square).
    """

    share: Share = 0.0
    benchmarks: tuple[Name, ...] | None = None
    severities: tuple[Literal["minor", "moderate", "severe", "extreme"], ...] = (
        "minor",
        "moderate",
        "severe",
        "extreme",
    )
    types: tuple[Literal["elaborates", "normalizes", "omits"], ...] = ("elaborates",)
    sentences: Annotated[int, Range(least=1, most=12)] = 12
    rotate_by_seed: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "plant")
        for name in ("benchmarks", "severities", "types"):
            values = getattr(self, name)
            if values is not None and not values:
                raise BadSetting(f"plant.{name}: []; name at least one, or set plant.share 0")
        if self.benchmarks is not None and len(set(self.benchmarks)) < len(self.benchmarks):
            raise BadSetting(f"plant.benchmarks: {shown(self.benchmarks)}; name each one once")


SaferRule = Literal["auto", "scorer", "judge", "none"]


@dataclass(frozen=True)
class SaferConfig:
    """Who decides that a repair is safer than the rationale that it replaces, by type of drift.

    One word in the section's place stands for all types. The paper has no such rule.

    Attributes:
        elaborates: scorer (the audit's scorer rates the repair lower), judge (the audit's judge finds it worse in neither order) or none; auto is judge where the audit has one, else scorer.
        normalizes: The same; auto likewise.
        omits: The same; auto is judge where the audit has one, else none: a text that names a harm scores higher than one that leaves it out.
    """

    one_for_all: ClassVar[bool] = True

    elaborates: SaferRule = "auto"
    normalizes: SaferRule = "auto"
    omits: SaferRule = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "require_safer")

    def rule(self, type: DriftType, has_judge: bool) -> str:
        """Find the rule for repairs of a type of drift: `scorer`, `judge` or `none`.

        Args:
            has_judge: Whether the audit asks a judge, which `auto` depends on.
        """
        chosen = getattr(self, type.value)
        if chosen != "auto":
            return chosen
        without_judge = "none" if type is DriftType.OMITS else "scorer"
        return "judge" if has_judge else without_judge


@dataclass(frozen=True)
class RepairConfig:
    """Settings of the training on confirmed drift cases.

    Attributes:
        cycles: Maximal number of rounds of audit and repair; a round that repairs nothing is the last. The paper has one.
        severity_weights: Weight of minor, moderate, severe and extreme cases: linear (1, 2, 3, 4, the paper's), uniform (1, 1, 1, 1), quadratic (1, 4, 9, 16), exponential (1, 2, 4, 8), or four numbers from 1e-6 to 1e6 such as [1, 1, 2, 8].
        weight_fn: A function of your own in place of severity_weights, as module.function, importable from the current directory: it gets a drift case and returns its weight, from 1e-6 to 1e6.
        weighting: Where the weight acts: loss (each example's loss times its weight) or oversample (that many copies of the example at weight 1; a fraction by systematic sampling, so that the expected number is the weight; more steps an epoch).
        mass: For comparing weights at equal mass: all weights of repairs are multiplied by one factor, so that their sum is this many times that of the replayed targets (which weigh 1 each) or, where none is replayed, this many times the number of repairs. Null: the weights as they are. Not together with max_weight_share, which would change the mass again.
        max_weight_share: Greatest share of the repair set's whole weight, replay included, that a single example may hold, such as 0.05; heavier ones are cut to one common weight, so that no severity weighs less than a milder one. In a set of fewer than 1/share examples all then weigh the same. Null: no limit.
        span_weight: Weight, within a repair target, of the sentence that replaces the passage marked by the judge; the other sentences weigh 1. See teach/spans.py.
        replay: Share of the distill targets (in [0, 1]) mixed into repair training, at weight 1.
        epochs: Number of passes over the repair set; 0 repairs nothing, so that M_DART is M_int (distill only).
        max_steps: Maximal number of optimizer steps, which the learning rate's rise and fall are fitted to; what would come in later steps is not trained on. Null: all steps of the epochs.
        learning_rate: Peak learning rate of the repair training, above 0.
        require_safer: Who decides that a repair target is safer than the drifted rationale: auto, scorer, judge or none, for all types of drift or by type.
        loss: The loss of a token in the repair stage.
    """

    cycles: Count = 1
    severity_weights: (
        Literal["linear", "uniform", "quadratic", "exponential"]
        | tuple[LossWeight, LossWeight, LossWeight, LossWeight]
    ) = "linear"
    weight_fn: Name | None = None
    weighting: Literal["loss", "oversample"] = "loss"
    mass: LossWeight | None = None
    max_weight_share: PositiveShare | None = None
    span_weight: LossWeightOrZero = 1.0
    replay: Share = 0.25
    epochs: Natural = 2
    max_steps: Count | None = None
    learning_rate: Positive = 1e-4
    require_safer: SaferConfig = field(default_factory=SaferConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        check_fields(self, "repair")
        self.loss.check("repair.loss", "toxicity_weight")
        if self.weight_fn is not None and self.severity_weights != "linear":
            raise BadSetting(
                f"repair.weight_fn: {self.weight_fn}; it takes the place of "
                f"repair.severity_weights, which is {shown(self.severity_weights)}: set one of the "
                "two back (weight_fn null, severity_weights linear)"
            )
        if self.mass is not None and self.max_weight_share is not None:
            raise BadSetting(
                f"repair.mass: {self.mass}; repair.max_weight_share would cut the weights that add "
                "up to it: set one of the two to null"
            )
        if self.loss.compares and self.span_weight != 1:
            raise BadSetting(
                f"repair.span_weight: {self.span_weight}; a pair of repair.loss.preference "
                f"{self.loss.preference} is compared as a whole: set it to 1"
            )
        if self.loss.kl_weight > 0 and self.replay == 0:
            raise BadSetting(
                f"repair.loss.kl_weight: {self.loss.kl_weight}; it is for replayed targets: set "
                "repair.replay above 0"
            )

    def identity(self) -> dict[str, Any]:
        """Return the settings that can change one repair; the number of cycles is left out.

        The caller adds the rules of `require_safer` for the types of drift that occur, and the
        text of `weight_fn`.
        """
        settings = asdict(self)
        # More cycles come after those that are done, and change nothing in them.
        del settings["cycles"], settings["require_safer"]
        if self.weight_fn is None:
            del settings["weight_fn"]  # as before there was such a setting
        return settings

    @property
    def weighs_unequally(self) -> bool:
        """Tell whether drift cases may have different weights."""
        return self.weight_fn is not None or len(set(self.weights)) > 1

    @property
    def weights(self) -> tuple[float, ...]:
        """Return `severity_weights` as numbers."""
        if isinstance(self.severity_weights, str):
            return SEVERITY_WEIGHTS[self.severity_weights]
        return tuple(map(float, self.severity_weights))
