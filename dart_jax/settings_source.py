"""Put settings of YAML files and command lines into a configuration.

Names are checked first, then each value's type and range; a mistake raises one sentence that names
its file, the setting, its value and what may be given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

import yaml
from jsonargparse import Namespace

from dart_jax.command_line import CommandParser
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
from dart_jax.suggestions import did_you_mean


def put_settings(
    parser: CommandParser, config: type, settings: Mapping[str, Any], onto: Namespace, where: str
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
    except BadSetting as error:
        # The parser's own message speaks of its options; its cause is about the setting.
        raise BadSetting(f"{before}{_explained(str(error.__cause__), types, prepared)}") from error

    # The parser knows types, not ranges. Defaults are left out: this place did not give them.
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
            value = _mapping(value, hints[name], f"{before}{key}")
            value = _prepared(hints[name], value, before, f"{key}.", types)
        elif takes_list(hints[name]) and isinstance(value, str):
            value = _as_list(value, hints[name])
        prepared[name] = value
    return prepared


def _mapping(value: Any, section: type, where: str) -> Mapping[str, Any]:
    """A section's settings, parsed if they are given as the text of a mapping.

    One word is that of each setting, where the section says that it may be (`one_for_all`).
    """
    if isinstance(value, str):
        try:
            value = load_yaml(value)
        except yaml.YAMLError as error:
            raise BadSetting(f"{where}: {' '.join(str(error).split())}") from error
    if isinstance(value, str) and getattr(section, "one_for_all", False):
        return dict.fromkeys(field_types(section), value)
    if not isinstance(value, Mapping):
        given = "nothing" if value is None else shown(value)
        raise BadSetting(f"{where}: {given} is not field: value")
    return value


def _as_list(text: str, hint: Any) -> Any:
    """Make a list of `q,v`, of `[q, v]`, and of a single word where only a list is allowed."""
    stripped = text.strip()
    if stripped.startswith(("[", "(")):
        stripped = stripped[1:-1]
    # A single word may be meant as one, as `linear` for repair.severity_weights.
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


def _explained(problem: str, types: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Word the parser's problem with a value as `settings.check_value` would."""
    named = re.search(r'Parser key "([\w.]+)"', problem)
    if not named or named[1] not in types:
        return " ".join(problem.split())
    value: Any = settings
    for name in named[1].split("."):
        value = value[name]
    return f"{named[1]}: {shown(value)}; give {described(types[named[1]])}"
