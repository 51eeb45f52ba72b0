"""The report's sections on the audit, each a piece of markdown."""

from collections.abc import Mapping, Sequence

from dart_jax.evaluate.markdown import escape, table
from dart_jax.evaluate.protocol import protocol_words
from dart_jax.evaluate.sections import percent, with_interval
from dart_jax.evaluate.summary import AUDITED, SEVERITIES
from dart_jax.records import DriftType, Opinion, Uncertain

_COUNTS = ("pairs", "no_room", "screened", "judged", "confirmed", "uncertain", "failed")
_LISTED = 20


_JUDGED = (
    "The judge sees each pair in both orders, as a first and a second text. Confirmed: it finds "
    "the audited model's text worse in both; the milder opinion counts. Uncertain: in one order "
    "only. Failed: it gave no valid answer. Uncertain and failed pairs are neither drift nor its "
    "absence, and nothing is repaired on them."
)
_NO_ROOM = (
    "No room: questions whose prompt left no room for an answer in the model's context; they are "
    "no pairs."
)
_SCREEN_ONLY = (
    "No judge was asked: a pair whose score rises by more than the severity bins' first bound "
    "counts as drift."
)


def drift(summary: dict) -> str:
    """Screened, judged, confirmed, uncertain and failed pairs, by severity and type."""
    parts = _audits(summary)
    types = [kind.value for kind in DriftType]
    rows = [
        (
            name,
            *(str(row[key]) for key in _COUNTS),
            *(str(row["by_severity"].get(key, 0)) for key in SEVERITIES),
            *(str(row["by_type"].get(key, 0)) for key in types),
        )
        for name, row in parts.items()
    ]
    reduction = summary["drift"]["reduction"]
    return "\n\n".join(
        part
        for part in (
            "## Drift",
            f"Pairs of answers; {protocol_words(summary)}.",
            table(("audited against M0", *_worded(_COUNTS), *SEVERITIES, *types), rows),
            _NO_ROOM if any(row["no_room"] for row in parts.values()) else "",
            _SCREEN_ONLY if summary["judge"] == "none" else _JUDGED,
            _screen(parts),
            "Reduction from M_int to M_DART on test questions: "
            + (
                "not defined, M_int has no confirmed drift there."
                if reduction is None
                else f"{percent(reduction)} %."
            ),
        )
        if part
    )


def uncertain(found: Mapping[str, Sequence[Uncertain]]) -> str:
    """The pairs on which the judge's two orders disagree; '' where there are none.

    Args:
        found: By audit, such as `M_int, test`.
    """
    cases = [(name, case) for name, listed in found.items() for case in listed]
    if not cases:
        return ""
    rows = [
        (name, escape(case.question_id), *(_said(opinion) for opinion in case.opinions))
        for name, case in cases[:_LISTED]
    ]
    more = len(cases) - len(rows)
    return "\n\n".join(
        part
        for part in (
            "## Uncertain pairs",
            "What the judge found worse in each order.",
            table(("audit", "question", "M0 first", "M0 second"), rows, words=4),
            f"And {more} more, in the run's verdict files." if more else "",
        )
        if part
    )


def cycles(summary: dict, planned: int) -> str:
    """Drift and accuracy by cycle; '' where one was planned.

    Args:
        planned: `repair.cycles`.
    """
    if planned == 1:
        return ""
    rows = [
        (
            str(number),
            row["audited"],
            row["model"],
            *(str(row["pool"][key]) for key in ("pairs", "confirmed", "uncertain", "failed")),
            str(row["repairs"]),
            *(str(row["drift"][key]) for key in ("confirmed", "uncertain", "failed")),
            with_interval(row["test"]["accuracy"], row["test"]["intervals"]["accuracy"]),
            *(percent(row["test"][key]) for key in ("equal_accuracy", "diff_accuracy")),
        )
        for number, row in enumerate(summary["cycles"], 1)
    ]
    header = ("cycle", "audited", "result", "pool: pairs", "confirmed", "uncertain", "failed")
    result = ("repairs", "test: confirmed", "uncertain", "failed", "accuracy", "EQUAL", "DIFF")
    ended = (
        f"{planned} cycles were planned; the last of these repaired nothing, and no accuracy had a "
        "part in that."
        if len(rows) < planned
        else ""
    )
    return "\n\n".join(
        part
        for part in (
            "## Cycles",
            table((*header, *result), rows, words=3),
            "Each cycle audits a model on the drift pool against M0 and trains it on from there. "
            "The figures after repairs are of the result, on test questions; beside them stand "
            "those of M_int and M_DART above.",
            ended,
        )
        if part
    )


def _worded(keys: Sequence[str]) -> list[str]:
    return [key.replace("_", " ") for key in keys]


def _audits(summary: dict) -> dict[str, dict]:
    return {
        "M_int, drift pool": summary["drift_pool"],
        **{f"{name}, test": summary["drift"][name] for name in AUDITED},
    }


def _screen(parts: Mapping[str, dict]) -> str:
    """The screen's recall and precision against a judge that saw every pair."""
    rows = [
        (name, str(found["found"]), str(found["missed"]), *(map(percent, _rates(found))))
        for name, row in parts.items()
        if (found := row.get("screen")) is not None
    ]
    if not rows:
        return ""
    header = ("the screen against the judge", "found", "missed", "recall", "precision")
    return table(header, rows) + (
        "\n\nThe judge saw every pair. Found and missed: confirmed pairs that the screen would "
        "have passed on to the judge or held back; precision is over screened pairs with a verdict."
    )


def _rates(found: Mapping[str, float | None]) -> tuple[float | None, float | None]:
    return found["recall"], found["precision"]


def _said(opinion: Opinion) -> str:
    if opinion.worse == "neither":
        return "neither"
    return f"{opinion.worse}: {opinion.type.value}, {opinion.severity.name.lower()}"
