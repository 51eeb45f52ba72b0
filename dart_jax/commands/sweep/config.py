"""The file of a sweep: a base configuration, what each variant changes, and the seeds.

    base: quickstart.yaml            # beside this file; or the sections themselves, inline
    settings: {sft.epochs: 3}        # default none: changes of the base that all variants share
    seeds: [0, 1, 2]                 # default [0]
    variants:
      linear:
      uniform: {repair.severity_weights: [1, 1, 1, 1]}
      quick:
        sft: {epochs: 1}
    expectations:                    # default none: written before the sweep runs, see below
      - {of: linear, metric: drift, below: uniform}

Every variant is parsed before anything runs. `run.*` belongs to the sweep. What is
expected is compared with what was found, see `evaluate.expectations`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.config import DartConfig, make_parser, put_arguments, resolve
from dart_jax.evaluate.expectations import Expectation
from dart_jax.evaluate.models import METRICS
from dart_jax.pipeline.run_day import day_of_sweep
from dart_jax.settings import BadSetting
from dart_jax.settings_source import put_settings
from dart_jax.strict_yaml import nested, read_settings
from dart_jax.suggestions import did_you_mean

_KEYS = {"base", "settings", "seeds", "variants", "expectations"}
_NOT_SHARED = {"config", "stages", "dry_run"}
_EXAMPLE = "{of: linear, metric: drift, below: uniform}"
# Names of variants become those of folders.
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
        day: That the sweep was first started; `model.date` of the runs that set none.
        expectations: What the file says that the table will show.
    """

    name: str
    out: Path
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[SweepRun, ...]
    day: str
    expectations: tuple[Expectation, ...] = ()

    @property
    def root(self) -> Path:
        """Folder of the runs."""
        return self.out / "runs"


def read_sweep(
    path: Path,
    out: Path | None,
    settings: Mapping[str, str],
    seeds: Sequence[int] | None = None,
    chosen: Sequence[str] | None = None,
    today: datetime.date | None = None,
) -> Sweep:
    """Read a sweep's file.

    Args:
        out: Where to write; default `<run.root>/sweep/<name of the file>`.
        settings: Texts by name, for every variant that does not set them.
        seeds: Instead of the file's.
        chosen: Variants of the file to run, in its order; default all. What it expects of the
            others stays unmeasured.
        today: The clock's day by default; see `pipeline.run_day` for what it is used for.

    Raises:
        BadSetting: An unknown or wrong key, named with its variant.
        FileNotFoundError: The file or its base.
    """
    content = read_settings(path)
    unknown = sorted(map(str, content.keys() - _KEYS))
    if unknown:
        near = did_you_mean(unknown[0], _KEYS)
        raise BadSetting(
            f"{path}: unknown key {unknown[0]}{near}; known: {', '.join(sorted(_KEYS))}"
        )

    parser = make_parser()
    base = _base(parser, path, content, settings)
    variants = _variants(path, content.get("variants"))
    if seeds is None:
        seeds = _seeds(f"{path}: seeds", content.get("seeds", [0]))
    else:
        seeds = _seeds("command line: --seeds", list(seeds))

    selected = _selected(chosen, variants)
    where = out or Path(base.run.root) / "sweep" / path.stem
    day = day_of_sweep(where, today or datetime.date.today())
    if base.model.date is None:
        # In the base, over which a variant may set a date of its own.
        base.model.date = day

    runs = [
        _run(parser, base, f"{path}: variants.{name}", name, overrides, seed, where / "runs")
        for seed in seeds
        for name, overrides in variants.items()
        if name in selected
    ]
    expectations = _expectations(path, content.get("expectations"), variants)
    return Sweep(path.stem, where, selected, seeds, tuple(runs), day, expectations)


def _base(parser: Any, path: Path, content: Mapping[str, Any], arguments: Mapping[str, str]) -> Any:
    """The configuration that the variants change, as the parser's namespace.

    The command line comes last: `arguments` win over the sweep's own `settings`.
    """
    where, base = f"{path}: base", content.get("base")
    if isinstance(base, str):
        file = path.parent / base
        if not file.is_file():
            raise FileNotFoundError(f"{where}: there is no file {file}")
        where, base = str(file), read_settings(file)
    if not isinstance(base, Mapping):
        raise BadSetting(f"{where}: give a configuration's file name, or its sections")

    own = f"{path}: settings"
    given = parser.get_defaults()
    for place, settings in (
        (where, nested(base, where)),
        (own, nested(_settings(own, content), own)),
    ):
        for flag in sorted(_NOT_SHARED & settings.keys()):
            raise BadSetting(f"{place}: {flag} has no place in a sweep")
        given = put_settings(parser, DartConfig, settings, given, place)
    return put_arguments(parser, arguments, given)


def _settings(where: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    given = content.get("settings") or {}
    if not isinstance(given, Mapping):
        raise BadSetting(f"{where}: {given!r} is not section.field: value")
    return given


def _variants(path: Path, given: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(given, Mapping) or not given:
        raise BadSetting(f"{path}: variants: give at least one, name: {{section.field: value}}")
    for name, overrides in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadSetting(f"{path}: variants: {name!r} is no plain name (letters, digits, ._-)")
        if overrides is not None and not isinstance(overrides, Mapping):
            raise BadSetting(f"{path}: variants.{name}: {overrides!r} is not section.field: value")
    return {name: overrides or {} for name, overrides in given.items()}


def _selected(chosen: Sequence[str] | None, variants: Iterable[str]) -> tuple[str, ...]:
    known = tuple(variants)
    for name in chosen or ():
        if name not in known:
            hint = did_you_mean(name, known)
            raise BadSetting(
                f"command line: --variants: unknown variant {name}{hint}; known: {', '.join(known)}"
            )
    return known if chosen is None else tuple(name for name in known if name in chosen)


def _expectations(path: Path, given: Any, variants: Iterable[str]) -> tuple[Expectation, ...]:
    """Read the list of expectations; a misspelt name would otherwise be found out after hours."""
    if not isinstance(given or [], list):
        raise BadSetting(f"{path}: expectations: give a list of {_EXAMPLE}")
    return tuple(
        _expectation(f"{path}: expectations, number {number}", each, list(variants))
        for number, each in enumerate(given or [], 1)
    )


def _expectation(where: str, given: Any, variants: Sequence[str]) -> Expectation:
    sides = [side for side in ("below", "above") if isinstance(given, Mapping) and side in given]
    if len(sides) != 1 or given.keys() != {"of", "metric", sides[0]}:
        raise BadSetting(f"{where}: {given!r} is not like {_EXAMPLE}")

    [side] = sides
    for key, known in (("of", variants), ("metric", METRICS), (side, [*variants, "M_int"])):
        if given[key] not in known:
            hint = did_you_mean(str(given[key]), known)
            raise BadSetting(
                f"{where}: unknown {key} {given[key]}{hint}; known: {', '.join(known)}"
            )
    return Expectation(given["of"], given["metric"], side, given[side])


def _seeds(where: str, given: Any) -> tuple[int, ...]:
    # By `type`, since true and false are instances of int.
    whole = isinstance(given, list) and all(type(seed) is int and seed >= 0 for seed in given)
    if not whole or not given or len(set(given)) < len(given):
        raise BadSetting(f"{where}: {given!r} is no list of different numbers, 0 or more")
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
    if settings.keys() & ({"run"} | _NOT_SHARED):
        raise BadSetting(f"{where}: run, config, stages and dry_run belong to the sweep")
    # A clone, so that no variant sees another's settings.
    given = put_settings(parser, DartConfig, settings, base.clone(), where)
    given.run.name, given.run.root, given.run.seed = f"{variant}-seed{seed}", str(root), seed
    try:
        config, _, resolved = resolve(parser, given)
    except BadSetting as error:
        raise BadSetting(f"{where}: {error}") from error
    return SweepRun(variant, seed, config, resolved)
