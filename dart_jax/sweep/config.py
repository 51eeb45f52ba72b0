"""The file of a sweep: a base configuration, what each variant changes, and the seeds.

    base: quickstart.yaml            # beside this file; or the sections themselves, inline
    settings: {sft.epochs: 3}        # default none: changes of the base that all variants share
    seeds: [0, 1, 2]                 # default [0]
    variants:
      linear:
      uniform: {repair.severity_weights: [1, 1, 1, 1]}
      quick:
        sft: {epochs: 1}

Every variant is parsed before anything runs. `run.*` belongs to the sweep.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.config import DartConfig, make_parser
from dart_jax.strict_yaml import nested, read_settings

_KEYS = {"base", "settings", "seeds", "variants"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SweepRun:
    """One variant with one seed: an ordinary run.

    Attributes:
        resolved: Its configuration as YAML.
    """

    variant: str
    seed: int
    config: DartConfig
    resolved: str


@dataclass(frozen=True)
class Sweep:
    """A sweep, read.

    Attributes:
        out: Folder of the tables and the plot; the runs are in `runs` there.
        variants: Names, in the file's order.
        runs: All variants with the first seed, then with the next: what variants share is done
            once a seed, and the first seed alone is a whole comparison.
    """

    name: str
    out: Path
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[SweepRun, ...]

    @property
    def root(self) -> Path:
        """Folder of the runs."""
        return self.out / "runs"


def read_sweep(
    path: Path, out: Path | None, base_args: Sequence[str], seeds: Sequence[int] | None = None
) -> Sweep:
    """Read a sweep's file.

    Args:
        out: Where to write; default `<run.root>/sweep/<name of the file>`.
        base_args: `--section.field value` settings for every variant that does not set them.
        seeds: Instead of the file's.

    Raises:
        ValueError: An unknown or wrong key, named with its variant.
        FileNotFoundError: The file or its base.
    """
    content = read_settings(path)
    unknown = sorted(map(str, content.keys() - _KEYS))
    if unknown:
        raise ValueError(f"{path}: unknown key {unknown[0]}; known: {', '.join(sorted(_KEYS))}")
    parser = make_parser()
    parser.exit_on_error = False
    base = _base(parser, path, content, base_args)
    variants = _variants(path, content.get("variants"))
    if seeds is None:
        seeds = _seeds(f"{path}: seeds", content.get("seeds", [0]))
    else:
        seeds = _seeds("command line: --seeds", list(seeds))
    where = out or Path(base.run.root) / "sweep" / path.stem
    runs = [
        _run(parser, base, f"{path}: variants.{name}", name, overrides, seed, where / "runs")
        for seed in seeds
        for name, overrides in variants.items()
    ]
    return Sweep(path.stem, where, tuple(variants), seeds, tuple(runs))


def _base(parser: Any, path: Path, content: Mapping[str, Any], args: Sequence[str]) -> Any:
    """The configuration that the variants change, as the parser's namespace.

    The command line comes last: `args` win over the sweep's own `settings`.
    """
    where, base = f"{path}: base", content.get("base")
    if isinstance(base, str):
        file = path.parent / base
        if not file.is_file():
            raise FileNotFoundError(f"{where}: there is no file {file}")
        where, base = str(file), read_settings(file)
    if not isinstance(base, Mapping):
        raise ValueError(f"{where}: give a configuration's file name, or its sections")
    own = f"{path}: settings"
    defaults = parser.get_defaults()
    given = defaults.clone()
    for place, settings in ((where, base), (own, nested(_settings(own, content), own))):
        given = _parsed(parser, settings, given, place)
        for flag in ("config", "dry_run", "stages"):
            if getattr(given, flag) != getattr(defaults, flag):
                raise ValueError(f"{place}: {flag} has no place in a sweep")
    try:
        return parser.parse_args(list(args), namespace=given)
    except argparse.ArgumentError as error:
        raise ValueError(f"command line: {error}") from error


def _settings(where: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    given = content.get("settings") or {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: {given!r} is not section.field: value")
    return given


def _variants(path: Path, given: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{path}: variants: give at least one, name: {{section.field: value}}")
    for name, overrides in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{path}: variants: {name!r} is no plain name (letters, digits, ._-)")
        if overrides is not None and not isinstance(overrides, Mapping):
            raise ValueError(f"{path}: variants.{name}: {overrides!r} is not section.field: value")
    return {name: overrides or {} for name, overrides in given.items()}


def _seeds(where: str, given: Any) -> tuple[int, ...]:
    whole = isinstance(given, list) and all(type(seed) is int and seed >= 0 for seed in given)
    if not whole or not given or len(set(given)) < len(given):
        raise ValueError(f"{where}: {given!r} is no list of different numbers, 0 or more")
    return tuple(given)


def _run(
    parser: Any,
    base: Any,
    where: str,
    variant: str,
    overrides: Mapping[str, Any],
    seed: int,
    root: Path,
) -> SweepRun:
    settings = nested(overrides, where)
    if settings.keys() & {"run", "config", "stages", "dry_run"}:
        raise ValueError(f"{where}: run, config, stages and dry_run belong to the sweep")
    given = _parsed(parser, settings, base.clone(), where)
    given.run.name, given.run.root, given.run.seed = f"{variant}-seed{seed}", str(root), seed
    try:
        sections = parser.instantiate(given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    names = [section.name for section in dataclasses.fields(DartConfig)]
    config = DartConfig(**{name: sections[name] for name in names})
    for key in ("config", "stages", "dry_run"):
        given.pop(key, None)
    resolved = parser.dump(given, skip_validation=True, skip_unset=False)
    return SweepRun(variant, seed, config, resolved)


def _parsed(parser: Any, settings: Mapping[str, Any], onto: Any, where: str) -> Any:
    """Settings put onto a namespace. Raises ValueError with `where` and the wrong key."""
    for section, fields in settings.items():
        if hasattr(DartConfig(), str(section)) and not isinstance(fields, Mapping):
            raise ValueError(f"{where}: {section}: {fields!r} is not field: value")
    try:
        return parser.parse_object(dict(settings), namespace=onto)
    except argparse.ArgumentError as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error
