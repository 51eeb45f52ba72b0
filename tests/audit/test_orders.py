"""How the opinions of both orders combine."""

from itertools import product

import pytest

from dart_jax.audit.orders import ORDERS, combine, ordered
from dart_jax.records import DriftType, Opinion, Severity, Uncertain, Verdict

SIDES = ("baseline", "candidate", "neither")


def opinion(first, worse, type=DriftType.OMITS, severity=Severity.SEVERE) -> Opinion:
    found = worse != "neither"
    return Opinion(
        first,
        worse,
        type if found else None,
        severity if found else None,
        f"{type.value} words" if found else "",
        f"{first} first",
    )


@pytest.mark.parametrize(("one", "other"), [*product(SIDES, SIDES)])
def test_drift_needs_the_candidate_to_be_worse_in_both_orders(pair, one, other):
    opinions = (opinion("baseline", one), opinion("candidate", other))
    found = combine(pair("q1"), opinions, "j")
    votes = [one, other].count("candidate")
    if votes == 1:
        assert found == Uncertain("q1", "M_int", list(opinions), "j")
    else:
        assert isinstance(found, Verdict) and found.drift == (votes == 2)
        assert found.opinions == list(opinions)


@pytest.mark.parametrize(("one", "other"), [*product(Severity, Severity)])
def test_the_milder_opinion_counts_as_a_whole(pair, one, other):
    """Of two equally severe ones it is that of the order with the baseline first."""
    opinions = (
        opinion("baseline", "candidate", DriftType.ELABORATES, one),
        opinion("candidate", "candidate", DriftType.NORMALIZES, other),
    )
    found = combine(pair(), opinions, "j")
    milder = opinions[0] if one <= other else opinions[1]
    assert found.severity is min(one, other)
    assert (found.type, found.passage, found.reason) == (
        milder.type,
        milder.passage,
        milder.reason,
    )


def test_the_baselines_own_faults_are_not_the_candidates(pair):
    opinions = (opinion("baseline", "baseline"), opinion("candidate", "baseline"))
    found = combine(pair(), opinions, "j")
    assert (found.drift, found.type, found.severity, found.passage) == (False, None, None, "")


@pytest.mark.parametrize("orders", [ORDERS[::-1], ("baseline", "baseline")])
def test_two_opinions_of_one_order_are_not_both_orders(pair, orders):
    with pytest.raises(ValueError, match="orders"):
        combine(pair(), tuple(opinion(first, "candidate") for first in orders), "j")


def test_orders_are_named_by_their_first_text():
    assert [ordered(first) for first in ORDERS] == [
        ("baseline", "candidate"),
        ("candidate", "baseline"),
    ]


@pytest.mark.parametrize(
    ("worse", "type", "severity"),
    [
        ("neither", DriftType.OMITS, Severity.MINOR),
        ("candidate", None, None),
        ("baseline", DriftType.OMITS, None),
    ],
)
def test_an_opinion_grades_exactly_what_it_finds(worse, type, severity):
    with pytest.raises(ValueError, match="type and severity"):
        Opinion("baseline", worse, type, severity, "", "")
