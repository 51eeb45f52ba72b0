"""Differences of a stage's inputs, as a person is told of them."""

import pytest

from dart_jax.changes import describe_changes, enumerated
from dart_jax.records import digest

HASHES = digest("a"), digest("b")


@pytest.mark.parametrize(
    ("before", "now", "described"),
    [
        ({"a": 1}, {"a": 1}, []),
        (
            {"repair": {"loss": {"fn": "cross_entropy"}, "epochs": 2}},
            {"repair": {"loss": {"fn": "focal"}, "epochs": 2}},
            ["repair.loss.fn changed (cross_entropy -> focal)"],
        ),
        ({"a": HASHES[0]}, {"a": HASHES[1]}, ["a changed"]),
        ({"a": [HASHES[0]]}, {"a": [HASHES[0], HASHES[1]]}, ["a changed"]),
        ({"a": None}, {"a": HASHES[0]}, ["a changed"]),
        ({"a": "x" * 64}, {"a": None}, [f"a changed ({'x' * 60}... -> null)"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a changed ([1, 2] -> [1])"]),
        ({"a": 1}, {"b": 1}, ["b changed (unset -> 1)", "a changed (1 -> unset)"]),
        ({"a": {"b": 1}}, {"a": None}, ["a changed (unset -> null)", "a.b changed (1 -> unset)"]),
    ],
)
def test_differences_are_named_by_their_path(before, now, described):
    assert describe_changes(before, now) == described


def test_many_are_cut_short():
    assert enumerated(["a", "b"]) == "a, b"
    assert enumerated([str(n) for n in range(9)]) == "0, 1, 2, 3, 4, 5 and 3 more"
