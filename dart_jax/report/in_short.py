"""Write the first sentences of a report: what stands out of the noise, and what does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dart_jax.evaluate.findings import COIN, POWER, Finding, findings
from dart_jax.evaluate.shortcut import SHORTCUT
from dart_jax.evaluate.summary import RunSummary
from dart_jax.report.cells import percent
from dart_jax.report.collateral import collateral_notes
from dart_jax.report.document import Block, Bullets, Note, Section, Strong, note
from dart_jax.report.results import BASELINE, same_model
from dart_jax.report.terms import form_notes, models_note
from dart_jax.summaries import Estimate

_NAMES = {SHORTCUT: f"the {BASELINE}", COIN: "a coin"}
_MOST = 1_000_000


def in_short(summary: RunSummary, confidence: float) -> Section:
    """Write the section that a report begins with.

    Args:
        confidence: Coverage of the intervals, in (0, 1).
    """
    return Section("In short", tuple(_sentences(summary, confidence)), anchor="short")


def _sentences(summary: RunSummary, confidence: float) -> Iterator[Block]:
    yield models_note(summary)
    if summary.m_dart_is_m_int:
        yield same_model(summary)

    found = findings(summary, confidence)
    if not found:
        yield note("No difference between the models could be tested.", style="lead")
        return

    of_form = [finding for finding in found if finding.unparseable is not None]
    of_content = [finding for finding in found if finding.unparseable is None]
    clear = [finding for finding in of_content if finding.stands_out]
    unclear = [finding for finding in of_content if not finding.stands_out]
    yield from _group("Stands out of the noise", clear)
    yield from _group("Cannot be told from noise", unclear)
    if of_form:
        yield from _group("About form, not about knowledge", of_form)
        yield from form_notes(summary)
    yield from collateral_notes(summary, confidence)
    # Not those of form: more questions would not tell what such a model knows.
    yield from _needed(of_content)
    yield note(
        f"Brackets are {100 * confidence:g} % intervals. A difference stands out where its "
        f"interval leaves out zero and its exact test has p below {1 - confidence:.2g}."
    )


def _group(title: str, found: Sequence[Finding]) -> Iterator[Block]:
    """List findings under a title."""
    if not found:
        yield note(Strong(f"{title}:"), " nothing that was tested.", style="lead")
        return
    yield note(Strong(f"{title}:"), style="lead")
    yield Bullets(tuple(note(f"{_in_words(finding)}.") for finding in found))


def _in_words(finding: Finding) -> str:
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
    if value == 0:
        return f"{candidate}'s accuracy is {baseline}'s, {amount} above it"
    direction = "below" if value < 0 else "above"
    return f"{candidate}'s accuracy is {amount} {direction} {baseline}'s"


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
            f"number of test questions would have to be {'; '.join(parts)}. It is {questions:,}. "
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
