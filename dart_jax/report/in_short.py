"""Write the first sentences of a report: what stands out of the noise, and what does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dart_jax.evaluate.findings import COIN, POWER, Finding, findings
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.cells import percent
from dart_jax.report.document import Note, Section, Strong, note
from dart_jax.report.results import BASELINE
from dart_jax.summaries import Estimate

_NAMES = {SHORTCUT: f"the {BASELINE}", COIN: "a coin"}
_MOST = 1_000_000


def in_short(summary: RunSummary, confidence: float) -> Section:
    """Write the section that a report begins with.

    Args:
        confidence: Coverage of the intervals, in (0, 1).
    """
    return Section("In short", tuple(_sentences(summary, confidence)), anchor="short")


def _sentences(summary: RunSummary, confidence: float) -> Iterator[Note]:
    found = findings(summary, confidence)
    if not found:
        yield note("No difference between the models could be tested.")
        return

    clear = [_in_words(finding, summary) for finding in found if finding.stands_out]
    unclear = [_in_words(finding, summary) for finding in found if not finding.stands_out]
    yield note(Strong("Stands out of the noise:"), f" {_listed(clear)}.")
    yield note(Strong("Cannot be told from noise:"), f" {_listed(unclear)}.")
    yield from _needed(found)
    yield note(
        f"Brackets are {100 * confidence:g} % intervals. A difference stands out where its "
        f"interval leaves out zero and its exact test has p below {1 - confidence:.2g}."
    )


def _listed(parts: Sequence[str]) -> str:
    return "; ".join(parts) or "nothing that was tested"


def _in_words(finding: Finding, summary: RunSummary) -> str:
    """Write a difference as an amount in the direction in which it was observed."""
    candidate, baseline = finding.candidate, _NAMES.get(finding.baseline, finding.baseline)
    value = finding.difference.value
    if finding.what != "accuracy":
        amount = _amount(finding.difference, "%")
        if value == 0:
            return f"{candidate} shows as much {finding.what} as {baseline}, {amount} less"
        direction = "more" if value < 0 else "less"
        return f"{candidate} shows {amount} {direction} {finding.what} than {baseline}"

    amount = _amount(finding.difference, "points")
    silent = finding.baseline == "M0" and summary.models["M0"].unparseable_rate == 1.0
    form = ", which wrote no conclusion line at all" if silent else ""
    if value == 0:
        return f"{candidate}'s accuracy is {baseline}'s, {amount} above it{form}"
    direction = "below" if value < 0 else "above"
    return f"{candidate}'s accuracy is {amount} {direction} {baseline}'s{form}"


def _amount(difference: Estimate, unit: str) -> str:
    """Write `4.7 points [-2.1, 11.2]` of a difference of -0.047: its size, and its interval."""
    low, high = difference.low, difference.high
    if difference.value < 0 and low is not None:
        low, high = -high, -low
    size = f"{percent(abs(difference.value))} {unit}"
    return size if low is None else f"{size} [{percent(low)}, {percent(high)}]"


def _needed(found: Sequence[Finding]) -> Iterator[Note]:
    """Say how many questions the differences that do not stand out would take."""
    parts = []
    for finding in found:
        if finding.needed is not None:
            parts.append(f"{_roughly(finding.needed)} for {_named(finding)}")
    if parts:
        questions = max(finding.questions for finding in found)
        yield note(
            f"To find differences of the size observed with a power of {100 * POWER:g} %, the "
            f"number of test questions would have to be {_listed(parts)}. It is {questions:,}. "
            "(From the intervals, which narrow with the square root of the number of questions.)"
        )


def _named(finding: Finding) -> str:
    if finding.what != "accuracy":
        return f"the change of {finding.what}"
    baseline = _NAMES.get(finding.baseline, finding.baseline)
    return f"{finding.candidate}'s accuracy against {baseline}'s"


def _roughly(count: int) -> str:
    """Round a number up to two significant digits; beyond a million there is no telling."""
    if count > _MOST:
        return "more than a million"
    step = 10 ** max(0, len(str(count)) - 2)
    return f"about {math.ceil(count / step) * step:,}"
