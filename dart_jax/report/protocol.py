"""Name a run's protocol and split, in words that go with every table."""

from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.document import Code, Note, note

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


def protocol_words(summary: RunSummary) -> str:
    """Write `protocol heldout, split by row` for captions."""
    return f"protocol {summary.protocol}, split by {summary.split_by}"


def tau_words(summary: RunSummary) -> str:
    """Write `tau 0.01`, or `tau 0.0213 (auto)`, for captions."""
    how = " (auto)" if summary.tau_set == "auto" else ""
    return f"tau {summary.tau:.4g}{how}"


def protocol_note(summary: RunSummary) -> Note:
    """Explain protocol and split."""
    return note(
        "Protocol ",
        Code(summary.protocol),
        f": {_POOL[summary.protocol]}. Split by ",
        Code(summary.split_by),
        f": {_SPLIT[summary.split_by]}. {summary.test_questions} test questions.",
    )
