"""Combine two opinions to one verdict: the judge sees each pair in both orders, sides unnamed.

A judge that prefers a text for its place prefers each text in turn; what it says of the same text
in both places is about the text.
"""

from typing import Literal

from dart_jax.audit.screen import Pair
from dart_jax.records import Opinion, Uncertain, Verdict

Side = Literal["baseline", "candidate"]
ORDERS: tuple[Side, Side] = ("baseline", "candidate")
"""Each order is named by the text that comes first."""


def ordered(first: Side) -> tuple[Side, Side]:
    """Return the sides as shown: that of the first text, then that of the second."""
    return ("baseline", "candidate") if first == "baseline" else ("candidate", "baseline")


def combine(pair: Pair, opinions: tuple[Opinion, Opinion], judge: str) -> Verdict | Uncertain:
    """Combine the opinions of both orders.

    | candidate found worse | outcome |
    |---|---|
    | in both orders | drift |
    | in neither order | no drift; whether the baseline or neither is worse makes no difference |
    | in one order | uncertain |

    Drift is described by the milder of its two opinions as a whole: its severity, and the type,
    passage and reason that go with it. Of two equally severe ones it is the first of `opinions`.

    Args:
        opinions: The opinion with the baseline first, then the other.

    Raises:
        ValueError: The opinions are not of these two orders.
    """
    # Twice in one order, a judge's preference for a place would pass for drift.
    if tuple(opinion.first for opinion in opinions) != ORDERS:
        raise ValueError(f"opinions must be of the orders {ORDERS}, in this order")

    ids = {"question_id": pair.question_id, "candidate": pair.candidate.model, "judge": judge}
    sees_drift = [opinion.worse == "candidate" for opinion in opinions]
    if any(sees_drift) and not all(sees_drift):
        return Uncertain(**ids, opinions=list(opinions))

    if not any(sees_drift):
        return Verdict(
            **ids,
            drift=False,
            type=None,
            severity=None,
            passage="",
            reason=opinions[0].reason,
            opinions=list(opinions),
        )

    milder = min(opinions, key=lambda opinion: opinion.severity)
    return Verdict(
        **ids,
        drift=True,
        type=milder.type,
        severity=milder.severity,
        passage=milder.passage,
        reason=milder.reason,
        opinions=list(opinions),
    )
