"""Find the inputs of a stage that decide what its models answer, when others have changed.

A stage names, beside its `inputs`, those on which no answer depends. Every other one has to be
equal for answers to be kept: what a later version adds counts as deciding until it is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

AUDIT_AFTER_ANSWERS = frozenset(
    {
        "mode",
        "scorer",
        "scorer_labels",
        "scorer_models",
        "scorers",
        "screen_by",
        "severity_bins",
        "tau",
        "views",
    }
)
"""Fields of the section `audit` that say what is made of answers once they are there."""


def deciding(
    inputs: Mapping[str, Any], free: Set[str], free_fields: Mapping[str, Set[str]]
) -> dict[str, Any]:
    """The inputs on which answers depend.

    Args:
        free: Inputs on which none depends.
        free_fields: Of an input that is a section, the fields on which none depends.
    """
    found = {key: value for key, value in inputs.items() if key not in free}
    for key, fields in free_fields.items():
        if key in found:
            found[key] = {name: row for name, row in found[key].items() if name not in fields}
    return found
