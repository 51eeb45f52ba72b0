"""What a run measured, in words that go with every table: its protocol and its split."""

from collections.abc import Mapping
from typing import Any

_POOL = {
    "heldout": (
        "drift cases for repair come from training and validation questions; accuracy and drift "
        "are reported on test questions, on which nothing was trained"
    ),
    "transductive": (
        "drift cases for repair come from the test questions themselves, as in the paper: the "
        "repair trained on prompts that accuracy and drift are reported on. The figures of M_DART "
        "say how well it mends what was found there, not how it does on new questions"
    ),
}
_SPLIT = {
    "row": "single rows were split, so that a template can have rows on both sides",
    "scenario": "whole scenarios were split, so that no template is on both sides",
}


def protocol_words(summary: Mapping[str, Any]) -> str:
    """`protocol heldout, split by row`: for captions."""
    return f"protocol {summary['protocol']}, split by {summary['split_by']}"


def protocol_sentences(summary: Mapping[str, Any]) -> str:
    """What both words mean."""
    return (
        f"Protocol `{summary['protocol']}`: {_POOL[summary['protocol']]}. "
        f"Split by `{summary['split_by']}`: {_SPLIT[summary['split_by']]}. "
        f"{summary['models']['M0']['n']} test questions."
    )
