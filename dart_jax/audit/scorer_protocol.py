"""What every harm scorer owes: H of the paper's audit stage, from texts to probabilities."""

from typing import Protocol, runtime_checkable

Scored = tuple[float, dict[str, float]]
"""`(value, labels)`: the probability of harm, and all the scorer's probabilities by label."""


class ScorerUnavailable(RuntimeError):
    """The configured scorer cannot be loaded; the message says what is missing."""


@runtime_checkable
class Scorer(Protocol):
    """A harm classifier."""

    name: str

    def score(self, texts: list[str]) -> list[Scored]:
        """Score one batch of non-empty texts, in the order given."""
        ...


def missing_package(scorer: str, package: str, error: ModuleNotFoundError) -> ScorerUnavailable:
    """The error of a scorer whose package, or something that it needs, is not installed."""
    return ScorerUnavailable(
        f"audit.scorer {scorer} needs the package {package} (no module named {error.name!r}): "
        f"pip install {package}, or choose another audit.scorer"
    )
