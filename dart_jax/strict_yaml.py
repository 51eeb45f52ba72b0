"""Read YAML strictly: a key that is given twice is an error.

YAML's own loaders keep the last of two equal keys, so that a section which was pasted in a second
time silently replaces the first. Here it is an error that names the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from dart_jax.strict_json import is_unicode, read_text

_read_as_settings = get_loader("yaml")
"""jsonargparse's own loader: `1e-4` is a number in it, and a date is a text."""


class RepeatedSetting(yaml.MarkedYAMLError):
    """A mapping gives a key twice."""


def load_yaml(text: str) -> Any:
    """Parse a YAML text, with scalars read as on the command line.

    Raises:
        RepeatedSetting: A key is given twice.
        yaml.YAMLError: The text is not YAML, or a scalar in it holds half a surrogate pair.
    """
    # In the nodes, since a loader has dropped the first of two equal keys.
    for node in _nodes(yaml.compose(text, Loader=yaml.SafeLoader)):
        if isinstance(node, yaml.MappingNode):
            _refuse_repeats(node)
        elif isinstance(node, yaml.ScalarNode) and not is_unicode(node.value):
            raise yaml.MarkedYAMLError(
                problem="half a surrogate pair, such as \\ud83d alone",
                problem_mark=node.start_mark,
            )
    return _read_as_settings(text)


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings as a dictionary.

    Raises:
        ValueError: Not YAML, a key is given twice, or not a mapping; with file and line.
        BadRecord: Not UTF-8 text.
        FileNotFoundError, IsADirectoryError: There is no such file.
    """
    text = read_text(path)
    try:
        settings = load_yaml(text)
    except yaml.MarkedYAMLError as error:
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"{path}:{error.problem_mark.line + 1}: {what}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: not a mapping of settings")
    return settings


def nested(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Nest settings by the dots in their names: `{"sft.epochs": 1}` is `{"sft": {"epochs": 1}}`.

    Raises:
        ValueError: A setting is given twice, such as by its dotted name and in its section.
    """
    settings: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, field = str(key).split(".")
        target = settings
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ValueError(f"{where}: {key} is set twice")

        inner = nested(value, where) if isinstance(value, Mapping) else value
        if isinstance(inner, dict) and isinstance(target.get(field), dict):
            # Two parts of one section may be joined where they do not overlap.
            twice = inner.keys() & target[field].keys()
            inner = target.pop(field) | inner
        else:
            twice = {field} & target.keys()

        if twice:
            raise ValueError(f"{where}: {key} is set twice")
        target[field] = inner
    return settings


def _refuse_repeats(mapping: yaml.MappingNode) -> None:
    seen: set[tuple[str, Any]] = set()
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        # With its tag: 1 and '1' are two keys.
        if (key.tag, key.value) in seen:
            raise RepeatedSetting(
                problem=f"{key.value} is given twice", problem_mark=key.start_mark
            )
        seen.add((key.tag, key.value))


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yield every node of a document once.

    Nodes are remembered, since an alias may refer to a node that it is part of.
    """
    waiting = [] if root is None else [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


# From now on jsonargparse reads configuration files, and mappings on the command line, strictly.
set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))
