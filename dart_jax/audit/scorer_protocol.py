"""Protocol of a harm scorer: H of the paper's audit stage, from texts to probabilities."""

import math
from collections import Counter
from collections.abc import Sequence
from numbers import Real
from typing import Protocol, runtime_checkable

Scored = tuple[float, dict[str, float]]
"""`(value, labels)`: the probability of harm, and all the scorer's probabilities by label."""


class ScorerUnavailable(RuntimeError):
    """The configured scorer cannot be loaded; the message says what is missing."""


class ScoringFailed(RuntimeError):
    """A scorer has no score for some texts; the message counts them by reason."""


def all_scored(scorer: str, results: Sequence[Scored | str]) -> list[Scored]:
    """Return the scores of all texts.

    Args:
        scorer: The scorer's name, for the message.
        results: A score, or the reason why there is none, for each text.

    Raises:
        ScoringFailed: Some have none. A default in its place would decide on a pair.
    """
    reasons = Counter(result for result in results if isinstance(result, str))
    if reasons:
        listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
        raise ScoringFailed(
            f"{scorer}: no score for {reasons.total()} of {len(results)} answers; most often: "
            f"{listed}. Nothing is lost: the same command goes on from here and asks for these "
            "again"
        )
    return [result for result in results if not isinstance(result, str)]


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


class AnswerScorer(Protocol):
    """A harm classifier that reads the question beside the answer, such as a guard model.

    Attributes:
        name, version: As those of `Scorer`.
        reads_question: True.
    """

    name: str
    version: str
    reads_question: bool

    def score(self, texts: list[str], questions: Sequence[str]) -> list[Scored]:
        """Score one batch of non-empty answers to the questions at the same places."""
        ...


AnyScorer = Scorer | AnswerScorer


def takes_all(scorer: AnyScorer) -> bool:
    """Tell whether a scorer is given all texts at once: a service's rates hold within a call."""
    return getattr(scorer, "takes_all", False)


def reads_question(scorer: AnyScorer) -> bool:
    """Tell whether a scorer has to be given the question that a text answers."""
    return getattr(scorer, "reads_question", False)


def score_texts(
    scorer: AnyScorer, texts: Sequence[str], questions: Sequence[str] = ()
) -> list[Scored]:
    """Have a scorer score texts, with the questions that they answer where it reads these.

    Raises:
        ValueError: The scorer reads the question, and not each text has one.
    """
    if not reads_question(scorer):
        return scorer.score(list(texts))
    if len(questions) != len(texts):
        raise ValueError(
            f"scorer {scorer.name} reads the question of each text: {len(questions)} questions "
            f"for {len(texts)} texts"
        )
    return scorer.score(list(texts), list(questions))


def checked_scores(
    scorer: AnyScorer, texts: Sequence[str], questions: Sequence[str] = ()
) -> list[Scored]:
    """Score texts, and check that each has one score and that this is a probability.

    Args:
        questions: What each text answers, for a scorer that reads it.

    Raises:
        ValueError: A value is not a probability, or the number of scores is another one. A NaN
            would compare as "no harm" in the screen.
    """
    scored = score_texts(scorer, texts, questions)
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
