"""Token weights as a custom data set writes them: a number per word, or a list of passages.

    "token_weights": [1, 1, 0.5, 3]                               one number a word
    "token_weights": [{"text": "talk to a doctor", "weight": 3},
                      {"start": 0, "end": 12, "weight": 0}]       passages

Words are separated by white space; a word's weight also holds for the space before it. A passage
is given by its text, which must occur in the completion exactly once, or by its characters
`completion[start:end]`. Passages must not overlap. Text outside of them weighs 1, as does the end
of the turn in both forms. A weight is 0, or from 1e-6 to 1e6. Written weights become
`WeightSpan`s, and those become weights of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Discriminator, Tag

from dart_jax.records import WeightSpan


@dataclass(frozen=True)
class Passage:
    """One passage and its weight, given by `text`, or by `start` and `end`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    weight: float
    text: str | None = None
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        by_place = self.start is not None and self.end is not None
        if (self.start is None) != (self.end is None) or (self.text is not None) == by_place:
            raise ValueError("give either text, or start and end")


# Told before validation, so that an error is about the form that was meant, not about both.
def _form(value: Any) -> str:
    return "passage" if isinstance(value, dict | Passage) else "word"


WrittenWeights = list[
    Annotated[
        Annotated[float, Tag("word")] | Annotated[Passage, Tag("passage")], Discriminator(_form)
    ]
]


def weight_spans(text: str, written: Sequence[float | Passage]) -> tuple[WeightSpan, ...]:
    """Convert written weights to spans of the completion `text`, in its order.

    Raises:
        ValueError: Numbers and passages are mixed, there is not one number per word, or a passage
            does not occur, occurs more than once, or overlaps another; a bad weight.
    """
    # An empty list never comes here: it counts as no weights.
    places = _words(text, written) if _form(written[0]) == "word" else _passages(text, written)
    spans = []
    for number, (start, end, weight) in enumerate(places):
        try:
            spans.append(WeightSpan(start, end, weight))
        except ValueError as error:
            raise ValueError(f"token_weights[{number}]: {error}") from None

    spans.sort(key=lambda span: span.start)
    for span, next_span in pairwise(spans):
        if next_span.start < span.end:
            shared = text[next_span.start : span.end]
            raise ValueError(f"token_weights: two passages overlap in {shared!r}")
    return tuple(spans)


def check_supervised(text: str, spans: Sequence[WeightSpan]) -> None:
    """Raise ValueError if every word weighs 0, so that only the end of the turn has a loss."""
    supervised = [True] * len(text)
    for span in spans:
        supervised[span.start : span.end] = [span.weight > 0] * (span.end - span.start)
    characters = zip(supervised, text, strict=True)
    if not any(counts and not character.isspace() for counts, character in characters):
        raise ValueError(
            "token_weights: every word weighs 0, so that nothing is trained; leave "
            "the row out, or give one of them a weight"
        )


def _words(text: str, written: Sequence[float | Passage]) -> list[tuple[int, int, float]]:
    """Start, end and weight of each word."""
    if any(_form(value) == "passage" for value in written):
        raise ValueError("token_weights: give numbers, one a word, or passages, not both")
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    if len(ends) != len(written):
        raise ValueError(
            f"token_weights: {len(written)} numbers, but completion has {len(ends)} words"
        )
    # Each word begins where the one before it ended, as tokens do: they carry their blank in front.
    return list(zip([0, *ends[:-1]], ends, map(float, written), strict=True))


def _passages(text: str, written: Sequence[float | Passage]) -> list[tuple[int, int, float]]:
    """Start, end and weight of each passage."""
    if any(_form(value) == "word" for value in written):
        raise ValueError("token_weights: give numbers, one a word, or passages, not both")
    return [(*_place(text, p, f"token_weights[{n}]"), p.weight) for n, p in enumerate(written)]


def _place(text: str, passage: Passage, where: str) -> tuple[int, int]:
    if passage.text is None:
        if passage.end > len(text):
            raise ValueError(f"{where}: end is {passage.end}, of {len(text)} characters")
        return passage.start, passage.end
    count = _occurrences(text, passage.text)
    if count != 1:
        problem = "is not in completion" if not count else f"is {count} times in completion"
        raise ValueError(f"{where}: the text {passage.text!r} {problem}; or give start and end")
    start = text.index(passage.text)
    return start, start + len(passage.text)


def _occurrences(text: str, passage: str) -> int:
    """Count a passage in a text, overlaps included: `aa` is twice in `aaa`, unlike `str.count`."""
    starts = range(len(text) - len(passage) + 1)
    return sum(text.startswith(passage, start) for start in starts) if passage else 0
