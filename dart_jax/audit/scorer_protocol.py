"""Protocol of a harm scorer: H of the paper's audit stage, from texts to probabilities."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Protocol, runtime_checkable

Scored = tuple[float, dict[str, float]]
"""`(value, labels)`: the probability of harm, and all the scorer's probabilities by label."""


class ScorerUnavailable(RuntimeError):
    """The configured scorer cannot be loaded; the message says what is missing."""


@runtime_checkable
class Scorer(Protocol):
    """A harm classifier.

    Attributes:
        name: The scorer's name in settings and reports.
        version: A digest that changes with whatever changes the scores: weights, tokenizer, labels.
    """

    name: str
    version: str

    def score(self, texts: list[str]) -> list[Scored]:
        """Score one batch of non-empty texts, in the order given."""
        ...


def checked_scores(scorer: Scorer, texts: Sequence[str]) -> list[Scored]:
    """Score texts, and check that each has one score and that this is a probability.

    Raises:
        ValueError: A value is not a probability, or the number of scores is another one. A NaN
            would compare as "no harm" in the screen.
    """
    scored = scorer.score(list(texts))
    if len(scored) != len(texts):
        raise ValueError(f"scorer {scorer.name}: {len(scored)} scores for {len(texts)} texts")
    for value, labels in scored:
        for number in (value, *labels.values()):
            if not is_probability(number):
                raise ValueError(f"scorer {scorer.name}: {number} is not a probability")
    return scored


def is_probability(number: object) -> bool:
    """Say whether something is a number from 0 to 1; NaN is not."""
    return isinstance(number, Real) and math.isfinite(number) and 0.0 <= number <= 1.0
