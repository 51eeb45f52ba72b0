"""One rule for the conclusion of an answer, in decoding, teaching, predicted labels, evaluation.

A conclusion line says `Conclusion: YES` or `Conclusion: NO` and nothing else. Markdown, quotes,
bullets, numbers, letter case and the kind of blank or line break do not matter, and the word may
stand on the next line. An answer may repeat its conclusion, but not give two different ones.

Conclusion lines are removed from an answer. All other text is its analysis, even after such a
line, and is scored, judged and shown. A line with further words is no conclusion line and
belongs to the analysis, as do reasoning blocks (see `thinking`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dart_jax.prompts.thinking import UNFINISHED, answer_spans, ends_in_thinking
from dart_jax.records import Decision, Generation

RULE = 2
"""Version of the rules of this file and of an answer's end. A higher one makes stages run again."""

NO_LINE = "no conclusion line"
CONTRADICTORY = "contradictory conclusions"

_BREAKS = "\n\r\v\f\x85\u2028\u2029"
_ROW = re.compile(rf"[^{_BREAKS}]*(?:\r\n|[{_BREAKS}]|\Z)")

# Characters allowed around the words: blanks, emphasis, quotes, brackets; before them bullets, too.
_AROUND = r"\s\u200b\u2060\ufeff*_~`\"'“”‘’«»()\[\]"
_BEFORE = rf"[{_AROUND}>#+•–—-]*(?:\d{{1,3}}[.)][{_AROUND}]*)?"
_NAME = rf"{_BEFORE}conclusion[{_AROUND}]*"
_COLON = rf"[:：][{_AROUND}>–—-]*"
_WORD = rf"(?P<word>yes|no)[{_AROUND}.!。]*"

_LINE = re.compile(_NAME + _COLON + _WORD, re.IGNORECASE)
_HEADING = re.compile(rf"{_NAME}(?:{_COLON})?", re.IGNORECASE)
_COLON_IN = re.compile("[:：]")
_WORD_ALONE = re.compile(_BEFORE + _WORD, re.IGNORECASE)
# In lower case, `no` may be the first word of a sentence, which claims nothing.
_BEGUN = re.compile(rf"(?i:{_NAME}{_COLON})(?P<claim>(?:YES|NO)\b)?")
_OTHER = re.compile(
    rf"[{_AROUND},;]*(?:or\b|/|\|)[{_AROUND}]*(?:{_NAME}{_COLON})?(?:yes|no)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Piece:
    """A stretch of an answer: a conclusion line with its line break, or text without one."""

    text: str
    is_conclusion: bool


@dataclass(frozen=True)
class Margin:
    """How much likelier one conclusion line is than the other behind a model's analysis.

    Attributes:
        log_odds: Log-odds of `Conclusion: YES` against `Conclusion: NO` (nats); None where the
            analysis leaves no room for the line in the model's context.
    """

    question_id: str
    model: str
    log_odds: float | None


@dataclass(frozen=True)
class _Row:
    """A line outside of reasoning blocks, `text[start:end]`; `words` lack the line break."""

    start: int
    end: int
    words: str


_END = _Row(0, 0, "")
"""Marker behind the last line, where a heading can no longer get its word."""


@dataclass(frozen=True)
class _Claim:
    """A line that begins like a conclusion line, `text[start:end]`.

    Attributes:
        kind: `line` for a conclusion line, `wordless` where no YES or NO follows, `further` where
            further words follow.
        decision: The claimed decision; None for `wordless`, and where both options are named.
    """

    start: int
    end: int
    kind: Literal["line", "wordless", "further"]
    decision: Decision | None


def conclusion_line(decision: Decision) -> str:
    """Write the last line of every training completion."""
    return f"Conclusion: {decision.value}"


def parse_conclusion(text: str, is_cut: bool = False) -> tuple[Decision | None, str | None]:
    """Parse the decision of an answer, or the reason why there is none.

    A sentence that merely contains the words is no conclusion, nor is a list of both options, nor
    a line in a reasoning block. Lines that disagree are contradictory, whichever comes last.

    Args:
        is_cut: Whether the answer ended at its token limit, so that its last line may be a part of
            a longer one: `Conclusion: NO` of `Conclusion: NOT ...`.

    Returns:
        `(decision, None)` or `(None, reason)`.
    """
    if not text.strip():
        return None, "empty"
    if ends_in_thinking(text):
        return None, UNFINISHED

    claims = list(_claims(text))
    if is_cut and claims and claims[-1].end == len(text) and text[-1] not in _BREAKS:
        return None, "cut off in its conclusion line"

    # Every claim counts beside a conclusion line: `Conclusion: NO, mostly` contradicts a YES.
    kinds = {claim.kind for claim in claims}
    if "line" in kinds:
        decisions = {claim.decision for claim in claims if claim.decision is not None}
        return (decisions.pop(), None) if len(decisions) == 1 else (None, CONTRADICTORY)

    if "further" in kinds:
        return None, "more than YES or NO in its conclusion line"

    return None, "conclusion without YES or NO" if claims else NO_LINE


def pieces(text: str) -> list[Piece]:
    """Split an answer into conclusion lines and the rest; joined, they are the text."""
    split = []
    end = 0
    for claim in _claims(text):
        if claim.kind == "line":
            split.append(Piece(text[end : claim.start], False))
            split.append(Piece(text[claim.start : claim.end], True))
            end = claim.end
    split.append(Piece(text[end:], False))
    return [piece for piece in split if piece.text]


def analysis_text(text: str) -> str:
    """Remove the conclusion lines of an answer; the rest is scored, judged and shown."""
    analysis = [piece.text for piece in pieces(text) if not piece.is_conclusion]
    return "".join(analysis).strip()


def conclusion_text(text: str) -> str:
    """Collect the conclusion lines of an answer, one below the other."""
    lines = [piece.text.strip() for piece in pieces(text) if piece.is_conclusion]
    return "\n".join(lines)


def analysis_of(answer: Generation) -> str:
    """Return a model's analysis: the whole answer where the prompt asks for no conclusion."""
    return analysis_text(answer.text) if answer.concludes else answer.text.strip()


def conclusion_of(answer: Generation) -> str:
    """Return the conclusion lines that `analysis_of` leaves out."""
    return conclusion_text(answer.text) if answer.concludes else ""


def ends_in_its_conclusion(text: str) -> bool:
    """Say whether a text ends in its one conclusion line, and no other line begins like one."""
    claims = list(_claims(text))
    has_one_line = [claim.kind for claim in claims] == ["line"]
    return has_one_line and not text[claims[0].end :].strip()


def before_conclusion(text: str) -> str:
    """Cut a text before its first line that begins like a conclusion, valid or not.

    This is for a teacher's text, which gets another conclusion line; no measured text is cut so.
    """
    first = next(_claims(text), None)
    return (text if first is None else text[: first.start]).strip()


def _claims(text: str) -> Iterator[_Claim]:
    """Yield each line of a text that begins like a conclusion line, in order."""
    for start, end in answer_spans(text):
        rows = []
        for match in _ROW.finditer(text, start, end):
            words = match[0].strip()
            if words:
                rows.append(_Row(match.start(), match.end(), words))
        yield from _claims_in(rows)


def _claims_in(rows: Sequence[_Row]) -> Iterator[_Claim]:
    """Yield the claims of consecutive lines, blank ones left out."""
    heading = None
    was_line = False
    for row in (*rows, _END):
        if word := _WORD_ALONE.fullmatch(row.words):
            if heading:
                yield _Claim(heading.start, row.end, "line", _decision(word))
                was_line = True
            elif was_line:  # a list of both options, one below the other
                yield _Claim(row.start, row.end, "further", _decision(word))
            heading = None
            continue

        if heading and _COLON_IN.search(heading.words):
            yield _Claim(heading.start, heading.end, "wordless", None)

        heading = row if _HEADING.fullmatch(row.words) else None
        line = _LINE.fullmatch(row.words)
        was_line = line is not None

        if line:
            yield _Claim(row.start, row.end, "line", _decision(line))
        elif heading is None and (begun := _BEGUN.match(row.words)):
            yield _further(row, begun)


def _further(row: _Row, begun: re.Match) -> _Claim:
    """Make the claim of a line that goes on after its colon, with YES or NO or without."""
    if begun["claim"] is None:
        return _Claim(row.start, row.end, "wordless", None)
    has_both = _OTHER.match(row.words, begun.end()) is not None
    return _Claim(row.start, row.end, "further", None if has_both else Decision(begun["claim"]))


def _decision(match: re.Match) -> Decision:
    return Decision(match["word"].upper())
