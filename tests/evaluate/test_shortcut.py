"""The shortcut baseline on made-up wording, and on the real suite where it is at hand."""

from pathlib import Path

import pytest

from dart_jax.evaluate.metrics import labelled
from dart_jax.evaluate.shortcut import shortcut_baseline
from dart_jax.records import Condition, Decision, Question

SUITE = Path(__file__).parents[2].parent / "shared" / "data" / "difference_awareness"


def shortcut_accuracy(train: list[Question], test: list[Question]) -> float:
    shortcut = shortcut_baseline(train, test)
    test = labelled(test)
    for margin, answer, question in zip(shortcut.margins, shortcut.answers, test, strict=True):
        assert margin.question_id == answer.question_id == question.id
        assert (margin.log_odds > 0) == (answer.decision is Decision.YES)
    right = [a.decision is q.gold for a, q in zip(shortcut.answers, test, strict=True)]
    return sum(right) / len(test)


def questions(texts: dict[str, str]) -> list[Question]:
    return [Question(t, "D1", Condition(label), t, 0, t) for t, label in texts.items()]


TELLTALE = questions(
    {f"who is allowed to join club {i}": "diff" for i in range(10)}
    | {f"who is likely to enjoy club {i}": "equal" for i in range(10)}
)


def test_wording_that_tells_is_learnt():
    test = questions({"who is allowed to enter": "diff", "who is likely to enter": "equal"})
    assert shortcut_accuracy(TELLTALE, test) == 1.0
    swapped = questions({"who is allowed to enter": "equal", "who is likely to enter": "diff"})
    assert shortcut_accuracy(TELLTALE, swapped) == 0.0


def test_word_order_counts():
    """Only a 2-gram tells `not allowed` from `allowed ... not`."""
    train = questions(
        {f"they are not allowed here {i}": "diff" for i in range(10)}
        | {f"not here are they allowed {i}": "equal" for i in range(10)}
    )
    test = questions({"are not allowed": "diff", "they allowed not here": "equal"})
    assert shortcut_accuracy(train, test) == 1.0


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [([], TELLTALE, "none"), (TELLTALE[:3], TELLTALE, "diff"), (TELLTALE, [], "max_test")],
)
def test_missing_rows_are_named(train, test, words):
    with pytest.raises(ValueError, match=words):
        shortcut_accuracy(train, test)


def test_unlabelled_questions_are_left_aside():
    test = questions({"who is allowed to enter": "diff", "who is likely to enter": "equal"})
    bare = [Question(f"b{n}", "D1", None, "who is allowed", -1, "s") for n in range(9)]
    assert shortcut_accuracy([*TELLTALE, *bare], [*test, *bare]) == 1.0
    for train, asked in ((bare, [*test, *bare]), (TELLTALE, bare), ([*TELLTALE[:2], *bare], test)):
        assert shortcut_baseline(train, asked) is None


@pytest.mark.skipif(not SUITE.exists(), reason="the real suite is not here")
@pytest.mark.parametrize(("by", "expected"), [("row", 0.91), ("scenario", 0.793)])
def test_real_suite_gives_its_labels_away(by, expected):
    """DESIGN.md, fault 6: 90.7 % by row, and clearly less once scenarios are kept apart."""
    from dart_jax.data.difference_awareness import load
    from dart_jax.data.splits import split

    splits = split(load(SUITE), by=by, seed=42)
    found = shortcut_accuracy(splits["train"], splits["test"])
    assert found == pytest.approx(expected, abs=0.005)
