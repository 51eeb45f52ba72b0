"""Read settings from YAML files and command lines into a configuration.

`train` and every command that takes `--section.field value` read settings here. Names are checked
first, then each value's type and range; a mistake raises one sentence that names its file, the
setting, its value and what may be given.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from dart_jax.command_line import did_you_mean
from dart_jax.settings import (
    BadSetting,
    check_value,
    described,
    field_types,
    setting_types,
    shown,
    takes_list,
)
from dart_jax.strict_yaml import load_yaml


def read_arguments(
    args: Sequence[str], known: Mapping[str, Any], flags: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Collect the values of `--name value` and `--name=value` arguments, in their order.

    Args:
        known: Names that take a value, with their annotations.
        flags: Names that take none.

    Raises:
        BadSetting: An unknown name, a missing value, or a word that belongs to no name.
    """
    values: dict[str, list[str]] = {}
    remaining = list(args)
    while remaining:
        argument = remaining.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            raise BadSetting(f"unexpected argument {argument}; settings are --section.field value")
        if name not in known and name not in flags:
            options = [f"--{option}" for option in [*known, *flags]]
            near = did_you_mean(f"--{name}", options)
            raise BadSetting(f"there is no setting --{name}{near}")

        if name in flags:
            if equals:
                raise BadSetting(f"--{name} takes no value, but {value} is given")
        elif not equals:
            if not remaining or remaining[0].startswith("--"):
                raise BadSetting(f"--{name} has no value; give {described(known[name])}")
            value = remaining.pop(0)
        values.setdefault(name, []).append(value)
    return values


def put_settings(
    parser: ArgumentParser, config: type, settings: Mapping[str, Any], onto: Namespace, where: str
) -> Namespace:
    """Parse settings and put them over those of the namespace `onto`.

    Args:
        config: The dataclass of sections that the parser was made for.
        settings: Nested by section; a value may be the text of a command line.
        where: The file that they were read from, for messages; '' for the command line.

    Raises:
        BadSetting: An unknown setting, or a value that is not of its type or outside its range.
    """
    types = dict(setting_types(config))
    before = f"{where}: " if where else ""
    prepared = _prepared(config, settings, before, "", types)
    try:
        parsed = parser.parse_object(prepared, namespace=onto)
    except argparse.ArgumentError as error:
        raise BadSetting(f"{before}{_explained(error, types, prepared)}") from error

    for key in _leaves(prepared):
        try:
            check_value(key, types[key], parsed[key])
        except BadSetting as error:
            raise BadSetting(f"{before}{error}") from error
    return parsed


def _prepared(
    config: type, settings: Mapping[str, Any], before: str, prefix: str, types: Mapping[str, Any]
) -> dict[str, Any]:
    """Check the settings' names, and make lists of texts such as `q,v` where a list belongs."""
    prepared = {}
    hints = field_types(config)
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise BadSetting(f"{before}there is no setting {key}{did_you_mean(key, types)}")

        if is_dataclass(hints[name]):
            value = _mapping(value, f"{before}{key}")
            value = _prepared(hints[name], value, before, f"{key}.", types)
        elif takes_list(hints[name]) and isinstance(value, str):
            value = _as_list(value, hints[name])
        prepared[name] = value
    return prepared


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A section's settings, parsed if they are given as the text of a mapping."""
    if isinstance(value, str):
        try:
            value = load_yaml(value)
        except yaml.YAMLError as error:
            raise BadSetting(f"{where}: {' '.join(str(error).split())}") from error
    if not isinstance(value, Mapping):
        given = "nothing" if value is None else shown(value)
        raise BadSetting(f"{where}: {given} is not field: value")
    return value


def _as_list(text: str, hint: Any) -> Any:
    """Make a list of `q,v`, of `[q, v]`, and of a single word where only a list is allowed."""
    stripped = text.strip()
    if stripped.startswith(("[", "(")):
        stripped = stripped[1:-1]
    elif "," not in stripped and " or " in described(hint):
        return text
    # The items stay texts: the parser makes numbers of them where numbers belong.
    try:
        return yaml.load(f"[{stripped}]", yaml.BaseLoader)
    except yaml.YAMLError:
        return text


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Dotted names of all settings in nested dictionaries."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _explained(
    error: argparse.ArgumentError, types: Mapping[str, Any], settings: Mapping[str, Any]
) -> str:
    """Word the parser's error about a value as `settings.check_value` would."""
    named = re.search(r'Parser key "([\w.]+)"', str(error))
    if not named or named[1] not in types:
        return " ".join(str(error).split())
    value: Any = settings
    for name in named[1].split("."):
        value = value[name]
    return f"{named[1]}: {shown(value)}; give {described(types[named[1]])}"
