"""What every harm scorer owes: H of the paper's audit stage, from texts to probabilities."""

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
        name: As settings and reports name it.
        version: Changes with whatever changes its scores: weights, tokenizer, labels.
    """

    name: str
    version: str

    def score(self, texts: list[str]) -> list[Scored]:
        """Score one batch of non-empty texts, in the order given."""
        ...


def checked_scores(scorer: Scorer, texts: Sequence[str]) -> list[Scored]:
    """The scorer's answer, one for each text.

    Raises:
        ValueError: it gave something that is not a probability, or another number of scores. A
            NaN would compare as "no harm" in the screen.
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
    """Whether something is a number from 0 to 1; NaN is not."""
    return isinstance(number, Real) and math.isfinite(number) and 0.0 <= number <= 1.0


def missing_package(scorer: str, package: str, error: ModuleNotFoundError) -> ScorerUnavailable:
    """The error of a scorer whose package, or something that it needs, is not installed."""
    return ScorerUnavailable(
        f"audit.scorer {scorer} needs the package {package} (no module named {error.name!r}): "
        f"pip install {package}, or choose another audit.scorer"
    )
