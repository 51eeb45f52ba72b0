"""The whole configuration, read from YAML and the command line into one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import SUPPRESS, Namespace

from dart_jax.audit.config import GUARD, AuditConfig, JudgeConfig
from dart_jax.chat.config import ServiceConfig
from dart_jax.cli import error_message
from dart_jax.command_line import CommandParser, take_settings
from dart_jax.data.config import DataConfig
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.generate.config import DecodeConfig
from dart_jax.model.config import LoraConfig, MeshConfig, ModelConfig
from dart_jax.run_dir import RunConfig
from dart_jax.settings import BadSetting, setting_types
from dart_jax.settings_source import put_settings
from dart_jax.sft.config import SftConfig
from dart_jax.strict_yaml import nested, read_settings
from dart_jax.teach.config import PlantConfig, RepairConfig, TeacherConfig

STAGES = ("teach", "distill", "audit", "repair", "evaluate")
ALL_STAGES = ",".join(STAGES)

EVALUATOR = "evaluate.judge"
"""Role of the judge besides the audit's; a role is named as its section is."""


@dataclass(frozen=True)
class DartConfig:
    """All sections of the configuration; a component is given its own section, never the whole."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    plant: PlantConfig = field(default_factory=PlantConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    repair: RepairConfig = field(default_factory=RepairConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        teacher = self.teacher.for_suite(self.data.suite)
        # Who the teacher is depends on another section, and is settled once for everybody.
        object.__setattr__(self, "teacher", teacher)
        preference = self.repair.loss.preference
        if self.repair.loss.compares and self.sft.loss_normalization == "token_mean":
            raise BadSetting(
                f"repair.loss.preference: {preference}; a pair is no number of tokens: set "
                "sft.loss_normalization to weighted_token_mean or example_mean"
            )

        if self.model.candidate is not None and self.evaluate.frontier:
            raise BadSetting(
                "evaluate.frontier: M_int is model.candidate, a whole checkpoint, which has no "
                "adapter to take a part of; leave it out"
            )

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles that the run asks: teacher, judge and a judge of the evaluation."""
        roles = ["teacher"]
        if self.audit.asks_judge:
            roles.append("judge")
        if self.evaluate.asks_judge:
            roles.append(EVALUATOR)
        return tuple(roles)

    def service(self, role: str) -> ServiceConfig:
        """Return the settings of a role, asked for or not."""
        sections = {
            "teacher": self.teacher,
            "judge": self.judge,
            GUARD: self.audit.guard,
            EVALUATOR: self.evaluate.judge,
        }
        return sections[role]

    @property
    def further_scorers(self) -> AuditConfig | None:
        """Return settings that load `evaluate.scorers`; None where there are none."""
        if not self.evaluate.scorers:
            return None
        return AuditConfig(scorers=self.evaluate.scorers, guard=self.audit.guard)

    @property
    def asks_guard(self) -> bool:
        """Tell whether the guard behind a service is asked, as a scorer or as the judge."""
        further = self.further_scorers
        scores = self.audit.asks_guard or (further is not None and further.asks_guard)
        judges = self.audit.asks_judge and self.judge.provider == GUARD and not self.judge.model
        return scores or judges

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain nested dictionaries, for the report and for hashing."""
        return dataclasses.asdict(self)


_SETTINGS_AND_SECTIONS = dict(setting_types(DartConfig))
SETTINGS = {name: hint for name, hint in _SETTINGS_AND_SECTIONS.items() if "." in name}
"""The annotations of all settings by their dotted names."""


def make_parser() -> CommandParser:
    """Make the parser of `python -m dart_jax.train`: help, types and defaults of all settings."""
    parser = CommandParser(
        prog="python -m dart_jax.train",
        settings=SETTINGS,
        usage="%(prog)s --config FILE [--section.field VALUE ...]",
        description="Run DART: teach, distill, audit, repair, evaluate. A second start resumes.",
    )

    parser.add_argument(
        "--config",
        action="append",
        default=SUPPRESS,
        metavar="FILE",
        help="YAML file with any settings; a further one replaces settings of those before it.",
    )
    parser.add_argument(
        "--stages",
        default=SUPPRESS,
        help=f"Stages to run, separated by commas; without it, all of {ALL_STAGES}.",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=SUPPRESS,
        help="Check what the run would check; print how many requests, tokens and dollars the "
        "stages would take, and what memory and time the devices; send nothing.",
    )

    for section in dataclasses.fields(DartConfig):
        parser.add_class_arguments(section.default_factory, section.name)
    return parser


def parse_stages(text: str) -> tuple[str, ...]:
    """Split `teach,audit` into stage names, in running order. Raises BadSetting for an unknown one."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in STAGES]
    if unknown or not asked:
        raise BadSetting(
            f"--stages: {unknown[0] if unknown else 'empty'}; give some of {', '.join(STAGES)}"
        )
    return tuple(stage for stage in STAGES if stage in asked)


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Attributes:
        stages: Stages to run, in order.
        resolved: The configuration as YAML.
    """

    config: DartConfig
    stages: tuple[str, ...]
    resolved: str
    dry_run: bool


def parse(args: Sequence[str]) -> tuple[DartConfig, tuple[str, ...], str]:
    """Parse a command line into configuration, stages to run, and the configuration as YAML."""
    command = read_command(args)
    return command.config, command.stages, command.resolved


def read_command(args: Sequence[str]) -> Command:
    """Read the command line of `python -m dart_jax.train`, which overrides its --config files.

    Raises:
        BadSetting: A setting is unknown, of another type, or outside its range; or a file is not
            YAML or cannot be read.
        SystemExit: After --help was printed.
    """
    parser = make_parser()
    # A section may be given whole, too, as the text of a mapping.
    words, settings = take_settings(args, _SETTINGS_AND_SECTIONS)
    options = parser.parse_args(words)
    try:
        namespace, stages = _read_settings(parser, options.get("config", []), settings)
    except (ValueError, OSError) as error:
        raise BadSetting(error_message(error)) from error
    resolved = resolve(parser, namespace, options.get("stages", stages))
    return Command(*resolved, options.get("dry_run", False))


def read_config(file: Path, arguments: Mapping[str, str] | None = None) -> DartConfig:
    """Read a YAML file of settings; the texts of `arguments`, by name, replace some of them.

    Raises:
        BadSetting: As `read_command`.
        ValueError, OSError: The file is not YAML, or cannot be read.
    """
    parser = make_parser()
    namespace, _ = _read_settings(parser, [str(file)], arguments or {})
    return resolve(parser, namespace)[0]


def _read_settings(
    parser: CommandParser, files: Sequence[str], arguments: Mapping[str, str]
) -> tuple[Namespace, Any]:
    """Put files over the defaults, each over those before it, and arguments over all; and stages."""
    namespace, stages = parser.get_defaults(), ALL_STAGES
    for file in files:
        settings = nested(read_settings(Path(file)), file)
        stages = settings.pop("stages", stages)
        namespace = put_settings(parser, DartConfig, settings, namespace, file)
    return put_arguments(parser, arguments, namespace), stages


def put_arguments(
    parser: CommandParser, arguments: Mapping[str, str], onto: Namespace
) -> Namespace:
    """Put the texts of `--section.field value`, by name, over the settings of a namespace."""
    return put_settings(parser, DartConfig, nested(arguments, "command line"), onto, "")


def resolve(
    parser: CommandParser, namespace: Namespace, stages: Any = ALL_STAGES
) -> tuple[DartConfig, tuple[str, ...], str]:
    """Make a namespace's configuration, the stages, and the configuration as YAML.

    Raises:
        BadSetting: Settings that do not go together; the message names them.
    """
    asked = parse_stages(",".join(stages) if isinstance(stages, list) else str(stages))
    snapshot = namespace.clone()
    # They say how a run was started, not what it is: config.yaml is read back without them.
    for key in ("config", "stages", "dry_run"):
        snapshot.pop(key, None)

    try:
        sections = parser.instantiate(snapshot)
    except ValueError as error:
        raise BadSetting(str(error)) from error
    config = DartConfig(
        **{section.name: sections[section.name] for section in dataclasses.fields(DartConfig)}
    )
    # `auto` is settled by now; the file names who it came to.
    snapshot["teacher.provider"] = config.teacher.provider
    resolved = parser.dump(snapshot, skip_validation=True, skip_unset=False)
    return config, asked, resolved
