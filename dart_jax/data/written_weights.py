"""Token weights as people write them, in own data: one number a word, or a list of passages.

    "token_weights": [1, 1, 0.5, 3]                               one number a word
    "token_weights": [{"text": "talk to a doctor", "weight": 3},
                      {"start": 0, "end": 12, "weight": 0}]       passages

Words are what white space separates; a word's weight holds for the space before it, too. A passage
is given by its text, which must stand in the completion exactly once, or by its characters
`completion[start:end]`; passages must not overlap, and what is outside of them weighs 1. So does
the end of the turn, in both forms. A weight is 0, or from 1e-6 to 1e6. They become `WeightSpan`s,
and then weights of tokens.
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
    """One passage with its weight; either `text`, or `start` and `end`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    weight: float
    text: str | None = None
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        by_place = self.start is not None and self.end is not None
        if (self.start is None) != (self.end is None) or (self.text is not None) == by_place:
            raise ValueError("give either text, or start and end")


def _form(value: Any) -> str:
    return "passage" if isinstance(value, dict | Passage) else "word"


WrittenWeights = list[
    Annotated[
        Annotated[float, Tag("word")] | Annotated[Passage, Tag("passage")], Discriminator(_form)
    ]
]


def weight_spans(text: str, written: Sequence[float | Passage]) -> tuple[WeightSpan, ...]:
    """The spans of a completion, in its order.

    Raises:
        ValueError: Numbers and passages are mixed, the numbers are not as many as the words, or a
            passage is not there, there more than once, or overlaps another; a bad weight.
    """
    places = _words(text, written) if _form(written[0]) == "word" else _passages(text, written)
    spans = []
    for number, (start, end, weight) in enumerate(places):
        try:
            spans.append(WeightSpan(start, end, weight))
        except ValueError as error:
            raise ValueError(f"token_weights[{number}]: {error}") from None
    spans.sort(key=lambda span: span.start)
    for one, other in pairwise(spans):
        if other.start < one.end:
            shared = text[other.start : one.end]
            raise ValueError(f"token_weights: two passages overlap in {shared!r}")
    return tuple(spans)


def check_supervised(text: str, spans: Sequence[WeightSpan]) -> None:
    """Raises ValueError where every word weighs 0, so that only the end of the turn has a loss."""
    weighs = [True] * len(text)
    for span in spans:
        weighs[span.start : span.end] = [span.weight > 0] * (span.end - span.start)
    if not any(here and not letter.isspace() for here, letter in zip(weighs, text, strict=True)):
        raise ValueError(
            "token_weights: every word weighs 0, so that nothing is trained; leave "
            "the row out, or give one of them a weight"
        )


def _words(text: str, written: Sequence[float | Passage]) -> list[tuple[int, int, float]]:
    if any(_form(value) == "passage" for value in written):
        raise ValueError("token_weights: give numbers, one a word, or passages, not both")
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    if len(ends) != len(written):
        raise ValueError(
            f"token_weights: {len(written)} numbers, but completion has {len(ends)} words"
        )
    return list(zip([0, *ends[:-1]], ends, map(float, written), strict=True))


def _passages(text: str, written: Sequence[float | Passage]) -> list[tuple[int, int, float]]:
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
        found = "is not in completion" if not count else f"is {count} times in completion"
        raise ValueError(f"{where}: the text {passage.text!r} {found}; or give start and end")
    start = text.index(passage.text)
    return start, start + len(passage.text)


def _occurrences(text: str, passage: str) -> int:
    """How often a passage stands in a text; `aa` is twice in `aaa`, which `str.count` misses."""
    starts = range(len(text) - len(passage) + 1)
    return sum(text.startswith(passage, start) for start in starts) if passage else 0
