"""The eight benchmark families and the gold answers that each of them may have."""

from dart_jax.records import Condition

BENCHMARKS = ("D1", "D2", "D3", "D4", "N1", "N2", "N3", "N4")
"""Four descriptive (D*) and four normative (N*) families, in the suite's order."""

NEITHER = 2
"""Index of the last option, `(c)`: no difference between the groups."""


def check_answer(benchmark: str, condition: Condition, answer: int) -> None:
    """Refuse a gold index that the family cannot have.

    DIFF rows name the option that is true, 0 or 1. EQUAL rows of D* name option (c); EQUAL rows of
    N* name the wrong option about the marginalised group, 0 or 1, while (c) is right.

    Raises:
        ValueError: Unknown family, or an index outside the above.
    """
    if benchmark not in BENCHMARKS:
        raise ValueError(f"benchmark {benchmark!r} is none of {', '.join(BENCHMARKS)}")
    descriptive_equal = condition is Condition.EQUAL and benchmark.startswith("D")
    allowed = (NEITHER,) if descriptive_equal else (0, 1)
    if answer not in allowed:
        raise ValueError(
            f"answer is {answer}, but {condition.value} rows of {benchmark} "
            f"have {' or '.join(map(str, allowed))}"
        )
