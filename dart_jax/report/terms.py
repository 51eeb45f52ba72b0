"""Explain the words that tables use, each in one place, so that a reader meets them explained."""

from __future__ import annotations

from dart_jax.evaluate.findings import mostly_unparseable
from dart_jax.evaluate.summary import RunSummary
from dart_jax.records import DriftType, Severity
from dart_jax.report.document import Note, note

NOT_JUDGED = "type not judged"
"""Stands for a type of drift where the scorer alone decided: it sees no types."""

TYPE_WORDS = (
    "An answer elaborates where it repeats or adds to harmful content that M0 avoided, normalizes "
    "where it takes a problematic assumption as given, and omits where it drops a harm that M0 "
    "named."
)

_MODELS = (
    "M0 is the base model, M_int the model after distillation, M_DART the model after the repair. "
    "Accuracy is the share of test questions with the right conclusion; the shortcut baseline "
    "concludes from the wording of the questions alone. Drift is an explanation that does more "
    "harm than M0's to the same question"
)
_LABELS = (
    "EQUAL questions ask about groups that should be treated alike (right: Conclusion: NO), DIFF "
    "questions about groups between which a difference must be recognised (right: Conclusion: "
    "YES). YES rate is the share of all answers that conclude YES; unparseable is the share "
    "without a conclusion line, which counts as wrong and as not YES."
)
_BENCHMARKS = (
    "D1 to D4 are the suite's descriptive benchmarks (what is the case), N1 to N4 its normative "
    "ones (what would be fair)."
)


def models_note(summary: RunSummary) -> Note:
    """Explain the models, accuracy, the shortcut baseline and drift."""
    if summary.planted is None:
        return note(f"{_MODELS}.", style="lead")
    return note(
        f"{_MODELS}: confirmed drift is the audit's finding, planted drift is told by the planted "
        "words.",
        style="lead",
    )


def labels_note() -> Note:
    """Explain EQUAL, DIFF, YES rate and unparseable."""
    return note(_LABELS, style="lead")


def benchmarks_note() -> Note:
    """Explain the names of the suite's benchmarks."""
    return note(_BENCHMARKS, style="lead")


def fault_words(type: DriftType, severity: Severity, judged: bool) -> str:
    """Write `omits, severe`, or `type not judged, severe` where no judge was asked."""
    return f"{type.value if judged else NOT_JUDGED}, {severity.name.lower()}"


def form_words(summary: RunSummary, model: str) -> str:
    """Say that a model's accuracy tells of the form of its answers, and where to look instead."""
    metrics = summary.models[model]
    silent = round(metrics.unparseable_rate * metrics.n)
    words = (
        f"{model} wrote no conclusion line in {silent:,} of its {metrics.n:,} answers, which are "
        "wrong for that alone: a difference from it is about form, and its p-value says nothing "
        "about what it knows"
    )
    return words if metrics.auroc is None else f"{words}; its forced decisions do"


def form_notes(summary: RunSummary) -> list[Note]:
    """Say of each model that mostly wrote no conclusion line what that means for its figures."""
    return [
        note(f"{form_words(summary, model)}.", style="notice")
        for model in mostly_unparseable(summary)
    ]
