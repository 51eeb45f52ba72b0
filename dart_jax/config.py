"""The whole configuration: one frozen dataclass of sections, from YAML and the command line."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from dart_jax.audit.config import AuditConfig, JudgeConfig
from dart_jax.data.config import DataConfig
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.generate.config import DecodeConfig
from dart_jax.model.config import LoraConfig, MeshConfig, ModelConfig
from dart_jax.run_dir import RunConfig
from dart_jax.sft.config import SftConfig
from dart_jax.strict_yaml import nested, read_settings
from dart_jax.teach.config import RepairConfig, TeacherConfig

STAGES = ("teach", "distill", "audit", "repair", "evaluate")


@dataclass(frozen=True)
class DartConfig:
    """Every section; a component takes its own, never the whole."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    repair: RepairConfig = field(default_factory=RepairConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, for the report and for hashing."""
        return dataclasses.asdict(self)


class SettingsFile(ActionConfigFile):
    """`--config FILE`, refused where it says something twice or gives a section a bare value."""

    @staticmethod
    def apply_config(parser: ArgumentParser, cfg: Namespace, dest: str, value: str) -> None:
        """Check the file, then let jsonargparse read it, as it does a mapping in its place."""
        if os.path.exists(value):
            check_sections(nested(read_settings(Path(value)), value), DartConfig(), value)
        ActionConfigFile.apply_config(parser, cfg, dest, value)


def check_sections(
    settings: Mapping[str, Any], defaults: Any, where: str, prefix: str = ""
) -> None:
    """Raise ValueError unless each section holds `field: value`; jsonargparse would pass over it.

    Args:
        settings: As in the file, without dots in the names.
        defaults: The dataclass that they are settings of.
        where: The file.
        prefix: What comes before their names, such as `sft.`.
    """
    for name, value in settings.items():
        section = getattr(defaults, str(name), None)
        if not dataclasses.is_dataclass(section):
            continue
        if isinstance(value, Mapping):
            check_sections(value, section, where, f"{prefix}{name}.")
        elif not isinstance(value, str):  # which names a file with the section
            given = "nothing" if value is None else repr(value)
            raise ValueError(f"{where}: {prefix}{name}: {given} is not field: value")


def make_parser() -> ArgumentParser:
    """The command line of `python -m dart_jax.train`."""
    parser = ArgumentParser(
        prog="python -m dart_jax.train",
        description="Run DART: teach, distill, audit, repair, evaluate. A second start resumes.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action=SettingsFile, help="YAML file with any settings.")
    parser.add_argument(
        "--stages",
        default=",".join(STAGES),
        help=f"Stages to run, separated by commas, out of {','.join(STAGES)}.",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Print how many requests, tokens and dollars the stages would take; send nothing.",
    )
    for section in dataclasses.fields(DartConfig):
        parser.add_class_arguments(section.default_factory, section.name)
    return parser


def parse_stages(text: str) -> tuple[str, ...]:
    """`teach,audit` as stage names in running order. Raises ValueError naming an unknown one."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in STAGES]
    if unknown or not asked:
        raise ValueError(f"--stages: {unknown[0] if unknown else 'empty'}; one of {STAGES}")
    return tuple(stage for stage in STAGES if stage in asked)


@dataclass(frozen=True)
class Command:
    """A command line, read.

    Attributes:
        stages: To run, in order.
        resolved: The configuration as YAML.
    """

    config: DartConfig
    stages: tuple[str, ...]
    resolved: str
    dry_run: bool


def parse(args: Sequence[str] | None = None) -> tuple[DartConfig, tuple[str, ...], str]:
    """Read settings: the configuration, the stages to run, and the configuration as YAML."""
    command = parse_command(args)
    return command.config, command.stages, command.resolved


def parse_command(args: Sequence[str] | None = None) -> Command:
    """Read the command line of `python -m dart_jax.train`."""
    parser = make_parser()
    try:
        parsed: Namespace = parser.parse_args(args)
        stages = parse_stages(parsed.stages)
        sections = parser.instantiate(parsed)
    except ValueError as error:
        parser.error(str(error))
    config = DartConfig(
        **{section.name: sections[section.name] for section in dataclasses.fields(DartConfig)}
    )
    snapshot = parsed.clone()
    for key in ("config", "stages", "dry_run"):
        snapshot.pop(key, None)
    resolved = parser.dump(snapshot, skip_validation=True, skip_unset=False)
    return Command(config, stages, resolved, parsed.dry_run)
