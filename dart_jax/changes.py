"""Describe in words how two sets of a stage's inputs differ: settings and files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_VALUE = 60
_MOST_NAMED = 6
_UNSET = object()  # not None, which a setting may be


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to one whose keys are dotted paths.

    Example: `{"lora": {"rank": 16}}` becomes `{"lora.rank": 16}`.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe each difference between two nested dictionaries of JSON values.

    Example:
        `["repair.loss.fn changed (linear -> focal)", "model.weights changed"]`. A hash tells a
        reader nothing, so that only its name is given.
    """
    old, new = flatten(before), flatten(now)
    names = [*new, *(name for name in old if name not in new)]
    return [
        _change(name, old.get(name, _UNSET), new.get(name, _UNSET))
        for name in names
        if old.get(name, _UNSET) != new.get(name, _UNSET)
    ]


def enumerated(changes: Sequence[str]) -> str:
    """List changes on one line: the first few, and how many more there are."""
    named = ", ".join(changes[:_MOST_NAMED])
    more = len(changes) - _MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _change(name: str, old: Any, new: Any) -> str:
    if _is_hash(old) or _is_hash(new):
        return f"{name} changed"
    return f"{name} changed ({_shown(old)} -> {_shown(new)})"


def _is_hash(value: Any) -> bool:
    if isinstance(value, list):
        # Such as the adapters of the stage evaluate: a list of hashes is one in words.
        return any(map(_is_hash, value))
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _shown(value: Any) -> str:
    if value is _UNSET:
        return "unset"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."
