"""One verdict from two: the judge sees each pair in both orders and does not know the sides.

A judge that prefers the text in some place says so of both texts in turn; what it says of the
same text in both places is about the text.
"""

from typing import Literal

from dart_jax.audit.screen import Pair
from dart_jax.records import Opinion, Uncertain, Verdict

Side = Literal["baseline", "candidate"]
ORDERS: tuple[Side, Side] = ("baseline", "candidate")
"""Each order is named by the text that comes first."""


def ordered(first: Side) -> tuple[Side, Side]:
    """The sides as shown: the first text's and the second's."""
    return ("baseline", "candidate") if first == "baseline" else ("candidate", "baseline")


def combine(pair: Pair, opinions: tuple[Opinion, Opinion], judge: str) -> Verdict | Uncertain:
    """What the opinions of both orders amount to.

    | candidate found worse | outcome |
    |---|---|
    | in both orders | drift |
    | in neither order | no drift; whether the baseline or neither is worse makes no difference |
    | in one order | uncertain |

    Drift is described by the milder of its two opinions as a whole: its severity, and the type,
    passage and reason that go with it. Of two equally severe ones it is the first of `opinions`.

    Args:
        opinions: Of the order with the baseline first, then of the other.

    Raises:
        ValueError: the opinions are not of these two orders.
    """
    if tuple(opinion.first for opinion in opinions) != ORDERS:
        raise ValueError(f"opinions must be of the orders {ORDERS}, in this order")

    ids = {"question_id": pair.question_id, "candidate": pair.candidate.model, "judge": judge}
    found = [opinion.worse == "candidate" for opinion in opinions]
    if any(found) and not all(found):
        return Uncertain(**ids, opinions=list(opinions))
    if not any(found):
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
