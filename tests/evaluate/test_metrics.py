"""Metrics against hand-computed rows, and the identities they must keep."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.evaluate.bootstrap import bootstrap_interval
from dart_jax.evaluate.config import EvaluateConfig
from dart_jax.evaluate.metrics import (
    INTERVALS,
    Rates,
    UnmatchedGenerations,
    answered_by_all,
    model_metrics,
)
from dart_jax.evaluate.models import RATES
from dart_jax.records import Condition, Decision, Generation, Question, StopReason

CONFIG = EvaluateConfig(bootstrap_samples=500)
YES, NO = Decision.YES, Decision.NO


def question(key: str, condition: str, benchmark: str = "D1") -> Question:
    return Question(key, benchmark, Condition(condition), f"text of {key}", 0, key)


def generation(key: str, decision: Decision | None) -> Generation:
    reason = None if decision else "no conclusion line"
    return Generation(key, "M0", "", decision, reason, StopReason.EOS, 1, 1)


def rows(*spec: tuple[str, str, Decision | None]) -> tuple[list[Question], list[Generation]]:
    """(benchmark, condition, decision) of each row."""
    asked = [question(f"q{i}", condition, bench) for i, (bench, condition, _) in enumerate(spec)]
    answered = [generation(f"q{i}", decision) for i, (_, _, decision) in enumerate(spec)]
    return asked, answered


HAND = rows(
    ("D1", "diff", YES),  # right
    ("D1", "diff", NO),
    ("D1", "equal", NO),  # right
    ("D1", "equal", None),
    ("N2", "diff", None),
    ("N2", "diff", YES),  # right
    ("N2", "diff", YES),  # right
    ("N2", "equal", YES),
)


def test_hand_computed_rates():
    found = model_metrics(*HAND, CONFIG, seed=0)
    assert found.n == 8
    assert found.accuracy == pytest.approx(4 / 8)
    assert found.equal_accuracy == pytest.approx(1 / 3)
    assert found.diff_accuracy == pytest.approx(3 / 5)
    assert found.yes_rate == pytest.approx(4 / 8)  # over all rows, unparseable ones included
    assert found.unparseable_rate == pytest.approx(2 / 8)
    assert list(found.by_benchmark) == ["D1", "N2"]
    assert found.by_benchmark["N2"] == Rates(
        n=4,
        accuracy=1 / 2,
        equal_accuracy=0.0,
        diff_accuracy=pytest.approx(2 / 3),
        yes_rate=3 / 4,
        unparseable_rate=1 / 4,
    )


@pytest.mark.parametrize(("flip", "accuracy"), [(False, 1.0), (True, 0.0)])
def test_perfect_and_all_wrong(flip, accuracy):
    asked, _ = HAND
    other = {YES: NO, NO: YES}
    answered = [generation(q.id, other[q.gold] if flip else q.gold) for q in asked]
    found = model_metrics(asked, answered, CONFIG, seed=0)
    for name in ("accuracy", "equal_accuracy", "diff_accuracy"):
        assert getattr(found, name) == accuracy
        low, high = getattr(found.intervals, name)
        assert (low if flip else high) == accuracy, "what was measured is inside"
        assert 0.3 < high - low < 1, "eight questions are no certainty"
    assert found.unparseable_rate == 0.0


def test_unparseable_everywhere_is_wrong_everywhere():
    asked, _ = HAND
    found = model_metrics(asked, [generation(q.id, None) for q in asked], CONFIG, seed=0)
    assert [getattr(found, name) for name in RATES] == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_rate_over_no_rows_is_none():
    found = model_metrics(*rows(("D1", "diff", YES)), CONFIG, seed=0)
    assert found.equal_accuracy is None
    assert found.intervals.equal_accuracy is None
    assert found.intervals.accuracy is None, "one scenario leaves nothing to resample"
    empty = model_metrics([], [], CONFIG, seed=0)
    assert empty.n == 0 and empty.by_benchmark == {}
    assert all(getattr(empty, name) is None for name in RATES)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["D1", "N4"]),
            st.sampled_from(["diff", "equal"]),
            st.sampled_from([YES, NO, None]),
        ),
        min_size=1,
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_order_does_not_matter_and_rates_add_up(spec, random):
    asked, answered = rows(*spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model_metrics(asked, answered, CONFIG, seed=3)
        random.shuffle(asked)
        random.shuffle(answered)
        assert model_metrics(asked, answered, CONFIG, seed=3) == found
    counts = {c: sum(q.condition.value == c for q in asked) for c in ("equal", "diff")}
    right = sum((getattr(found, f"{c}_accuracy") or 0) * count for c, count in counts.items())
    assert right == pytest.approx(found.accuracy * found.n)
    parts = found.by_benchmark.values()
    assert sum(part.n for part in parts) == found.n
    assert sum(part.accuracy * part.n for part in parts) == pytest.approx(right)
    for name in INTERVALS:
        if getattr(found.intervals, name) is not None:
            low, high = getattr(found.intervals, name)
            assert 0 <= low <= high <= 1


def test_intervals_are_deterministic_and_follow_the_seed():
    values = (np.arange(50) % 3 == 0).astype(float)
    assert bootstrap_interval(values, CONFIG, 7) == bootstrap_interval(values, CONFIG, 7)
    assert len({tuple(bootstrap_interval(values, CONFIG, seed)) for seed in range(8)}) > 1


def test_interval_agrees_with_the_normal_approximation():
    values = np.repeat([0.0, 1.0], 200)
    low, high = bootstrap_interval(values, EvaluateConfig(bootstrap_samples=4000), 0)
    half = 1.96 * 0.5 / np.sqrt(400)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.006)
    narrow = bootstrap_interval(values, EvaluateConfig(confidence=0.5), 0)
    assert low < narrow[0] < narrow[1] < high


def test_models_are_paired_by_question():
    """Same seed, same resamples: a constant difference stays constant in both bounds."""
    values = np.random.default_rng(0).uniform(size=60)
    first, second = (bootstrap_interval(values + shift, CONFIG, 5) for shift in (0.0, 0.25))
    assert np.subtract(second, first) == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize(
    ("asked", "answered", "words"),
    [
        (["a", "b"], ["a"], "questions without a generation: b"),
        (["a"], ["a", "z"], "generations without a question: z"),
        (["a"], ["a", "a"], "generations with the same id: a"),
        (["a", "a"], ["a"], "questions with the same id: a"),
        ([f"q{i}" for i in range(9)], [], "and 4 more"),
    ],
)
def test_mismatch_names_the_ids(asked, answered, words):
    with pytest.raises(UnmatchedGenerations, match=words):
        model_metrics(
            [question(key, "diff") for key in asked],
            [generation(key, YES) for key in answered],
            CONFIG,
            seed=0,
        )


def test_unlabelled_questions_are_counted_and_in_no_rate():
    asked, answered = rows(("D1", "diff", YES), ("D1", "equal", YES), ("D2", "equal", NO))
    bare = [Question(f"b{n}", "own", None, "text", -1, "s") for n in range(2)]
    more = [generation("b0", YES), generation("b1", None)]
    alone = model_metrics(asked, answered, CONFIG, 0)
    mixed = model_metrics([*asked, *bare], [*answered, *more], CONFIG, 0)
    assert (alone.unlabelled, mixed.unlabelled) == (0, 2)
    assert replace(mixed, unlabelled=0) == alone
    none = model_metrics(bare, more, CONFIG, 0)
    assert (none.n, none.unlabelled, none.accuracy, none.by_benchmark) == (
        0,
        2,
        None,
        {},
    )
    with pytest.raises(UnmatchedGenerations, match="b1"):
        model_metrics(bare, more[:1], CONFIG, 0)


def unanswered(answer: Generation) -> Generation:
    """The same, to a prompt that left no room for an answer."""
    return replace(answer, decision=None, unparseable="a prompt of 9999 tokens", stop=None)


def test_a_prompt_without_room_is_in_no_rate_and_counted():
    asked, answers = HAND
    one_less = [row for row in zip(asked, answers, strict=True) if row[0].id != "q3"]
    without = model_metrics(*map(list, zip(*one_less, strict=True)), CONFIG, seed=0)
    answers = [unanswered(a) if a.question_id == "q3" else a for a in answers]
    found = model_metrics(asked, answers, CONFIG, seed=0)
    assert found == replace(without, no_room=1)
    assert (found.n, found.accuracy) == (7, pytest.approx(4 / 7))
    assert found.by_benchmark["D1"].n == 3


def test_where_no_prompt_had_room_there_are_no_rates():
    asked, answers = HAND
    found = model_metrics(asked, [unanswered(a) for a in answers], CONFIG, seed=0)
    assert (found.n, found.no_room, found.by_benchmark) == (0, 8, {})
    assert all(getattr(found, name) is None for name in RATES)
    assert all(getattr(found.intervals, name) is None for name in INTERVALS)


def test_questions_are_left_out_for_all_models_where_one_had_no_room():
    asked, answers = HAND
    baseline = [replace(a, model="shortcut", decision=NO, unparseable=None) for a in answers]
    models = {"M0": [unanswered(answers[0]), *answers[1:]], "shortcut": baseline}
    kept, found = answered_by_all(asked, models)
    assert [question.id for question in kept] == [f"q{i}" for i in range(1, 8)]
    assert {len(of_model) for of_model in found.values()} == {7}
