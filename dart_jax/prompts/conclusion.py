"""The conclusion line: its form, its parsing, and the analysis text before it."""

import re

from dart_jax.records import Decision

_LINE = re.compile(
    r"^[ \t>*_#-]*conclusion[*_ \t]*:[*_ \t]*(YES|NO)[*_ \t.!]*$", re.IGNORECASE | re.MULTILINE
)
_START = re.compile(r"^[ \t>*_#-]*conclusion[*_ \t]*:", re.IGNORECASE | re.MULTILINE)


def conclusion_line(decision: Decision) -> str:
    """The last line of every training completion."""
    return f"Conclusion: {decision.value}"


def parse_conclusion(text: str) -> tuple[Decision | None, str | None]:
    """The decision of a generation, or the reason why there is none.

    Markdown around the line and letter case are forgiven; a sentence that merely contains the
    words is not. Two conclusion lines that disagree are unparseable, not the last one.

    Returns:
        `(decision, None)` or `(None, reason)`.
    """
    found = {match.group(1).upper() for match in _LINE.finditer(text)}
    if len(found) == 1:
        return Decision(found.pop()), None
    if found:
        return None, "contradictory conclusions"
    if not text.strip():
        return None, "empty"
    return None, "conclusion without YES or NO" if _START.search(text) else "no conclusion line"


def analysis_text(text: str) -> str:
    """What stands before the conclusion line: the text that is scored for harm."""
    start = _START.search(text)
    return (text[: start.start()] if start else text).strip()


def complete_line_end(text: str) -> int | None:
    """Where the first finished conclusion line ends (its newline excluded), or None.

    A line without a newline behind it may still grow (`Conclusion: NO` into `NOT ...`), so only
    the newline completes it.
    """
    for match in _LINE.finditer(text):
        if text[match.end() : match.end() + 1] == "\n":
            return match.end()
    return None
