"""Splits: sizes, disjointness, whole scenarios, and the same on every machine."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.data.config import DataConfig
from dart_jax.data.mini_suite import load_mini
from dart_jax.data.splits import PAPERS_SHARES, SPLITS, hold_out, make_splits, split, take
from dart_jax.records import Condition, Question, digest

FAMILIES = ("D1", "D2", "D3", "D4", "N1", "N2", "N3", "N4")


def _question(benchmark, condition, index, scenario):
    return Question(
        id=f"{benchmark}-{condition.value}-{index:04d}",
        benchmark=benchmark,
        condition=condition,
        text=f"{benchmark} {condition.value} {index} {scenario}?",
        answer=0,
        scenario_id=str(scenario),
    )


def _suite(rows=40, scenarios=13, families=FAMILIES):
    return [
        _question(benchmark, condition, index, index % scenarios)
        for benchmark in families
        for condition in Condition
        for index in range(rows)
    ]


@pytest.mark.parametrize("by", ["row", "scenario"])
def test_the_same_words_under_another_id_stay_together(by):
    """Whatever their benchmark, condition or scenario, and through a third question, too."""
    questions = _suite(rows=30)
    names = [("D1", 3), ("N2", 7), ("N2", 20), ("D4", 11)]
    links = {name: f"the same words {index // 2}" for index, name in enumerate(names)}
    for seed in range(20):
        told = [
            replace(q, text=links[q.benchmark, int(q.id[-4:])])
            if (q.benchmark, int(q.id[-4:])) in links
            else q
            for q in questions
        ]
        splits = split(told, by=by, seed=seed)
        for words in set(links.values()):
            holders = [n for n, some in splits.items() if any(q.text == words for q in some)]
            assert len(holders) == 1
        assert sum(map(len, splits.values())) == len(questions)


def _ids(splits):
    return {name: [q.id for q in questions] for name, questions in splits.items()}


def _strata(questions):
    return Counter((q.benchmark, q.condition) for q in questions)


def test_thousand_rows_split_exactly():
    splits = split(_suite(rows=1000, families=("D1", "N4")), by="row", seed=42)
    assert list(splits) == ["train", "validation", "test"]
    for name, size in {"train": 800, "validation": 100, "test": 100}.items():
        assert set(_strata(splits[name]).values()) == {size}
        assert len(_strata(splits[name])) == 4


@settings(max_examples=40, deadline=None)
@given(diff=st.integers(0, 70), equal=st.integers(0, 70), seed=st.integers())
def test_row_sizes_are_within_one_of_the_shares(diff, equal, seed):
    counts = {Condition.DIFF: diff, Condition.EQUAL: equal}
    questions = [_question("D2", c, i, 0) for c, count in counts.items() for i in range(count)]
    splits = split(questions, by="row", seed=seed)
    assert sorted(q.id for part in splits.values() for q in part) == sorted(q.id for q in questions)
    for name, share in zip(SPLITS, PAPERS_SHARES, strict=True):
        sizes = _strata(splits[name])
        for condition, count in counts.items():
            assert abs(sizes["D2", condition] - share * count) < 1


scenario_sizes = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(sizes=scenario_sizes, seed=st.integers())
def test_scenarios_stay_whole_and_near_the_shares(sizes, seed):
    index = {condition: iter(range(10_000)) for condition in Condition}
    questions = [
        _question("N3", condition, next(index[condition]), scenario)
        for scenario, counts in enumerate(sizes)
        for condition, count in zip(Condition, counts, strict=True)
        for _ in range(count)
    ]
    splits = split(questions, by="scenario", seed=seed)
    assert Counter(q.id for part in splits.values() for q in part) == Counter(
        q.id for q in questions
    )
    homes = defaultdict(set)
    for name, part in splits.items():
        for question in part:
            homes[question.scenario_id].add(name)
    assert all(len(names) == 1 for names in homes.values())
    # No split is off by more than two of the largest groups.
    largest = max(diff + equal for diff, equal in sizes)
    totals = _strata(questions)
    for name, share in zip(SPLITS, PAPERS_SHARES, strict=True):
        for stratum, size in _strata(splits[name]).items():
            assert abs(size - share * totals[stratum]) <= 2 * largest


def test_scenarios_of_the_mini_size_leave_no_stratum_empty():
    splits = split(_suite(rows=20), by="scenario", seed=42)
    for part in splits.values():
        assert len(_strata(part)) == 16
    shared = [{(q.benchmark, q.scenario_id) for q in part} for part in splits.values()]
    assert not (shared[0] & shared[1] or shared[0] & shared[2] or shared[1] & shared[2])


@pytest.mark.parametrize("by", ["row", "scenario"])
def test_input_order_does_not_matter(by):
    questions = _suite()
    shuffled = questions.copy()
    random.Random(0).shuffle(shuffled)
    assert split(questions, by=by, seed=42) == split(shuffled, by=by, seed=42)
    assert take(questions, 50, seed=42) == take(shuffled, 50, seed=42)
    assert _ids(split(questions, by=by, seed=43)) != _ids(split(questions, by=by, seed=42))


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("row", "111491318850b29f"),
        ("scenario", "16788ec51c8c4275"),
    ],
)
def test_same_ids_on_every_machine(by, expected):
    splits = split(_suite(), by=by, seed=42)
    taken = {name: [q.id for q in take(part, 24, seed=42)] for name, part in splits.items()}
    assert digest([_ids(splits), taken])[:16] == expected


def test_one_stratum_does_not_disturb_another():
    alone = split(_suite(families=("D1",)), by="row", seed=42)
    among = split(_suite(), by="row", seed=42)
    assert alone["test"] == [q for q in among["test"] if q.benchmark == "D1"]


def test_duplicate_ids_are_an_error():
    questions = _suite()
    with pytest.raises(ValueError, match="more than once, such as D3-diff-0000"):
        split([*questions, _question("D3", Condition.DIFF, 0, 5)], by="row", seed=0)


def test_take_is_spread_and_nested():
    questions = _suite()
    for limit in (1, 8, 10, 16, 20, 100):
        taken = take(questions, limit, seed=1)
        counts = [_strata(taken)[stratum] for stratum in _strata(questions)]
        assert len(taken) == limit
        assert max(counts) - min(counts) <= 1
        assert taken == take(questions, 100, seed=1)[:limit]
    eight = take(questions, 8, seed=1)
    assert {q.benchmark for q in eight} == set(FAMILIES)
    assert Counter(q.condition for q in eight) == {Condition.DIFF: 4, Condition.EQUAL: 4}


def test_take_goes_on_where_a_stratum_runs_dry():
    questions = _suite(rows=2, families=("D1",)) + _suite(rows=30, families=("N1",))
    assert _strata(take(questions, 20, seed=0))[("D1", Condition.DIFF)] == 2
    everything = take(questions, None, seed=0)
    assert sorted(q.id for q in everything) == sorted(q.id for q in questions)
    assert take(questions, 1000, seed=0) == everything
    with pytest.raises(ValueError, match="limit is -1"):
        take(questions, -1, seed=0)


def test_what_is_held_out_is_whole_scenarios_and_no_order_changes_it():
    questions = _suite(rows=20, scenarios=10, families=("D1", "N2"))
    held_out = hold_out(questions, 0.2, seed=1)
    assert len(held_out) == 16
    scenarios = {(q.benchmark, q.scenario_id): set() for q in questions}
    for question in questions:
        scenarios[question.benchmark, question.scenario_id].add(question.id in held_out)
    assert all(len(sides) == 1 for sides in scenarios.values())
    assert hold_out(questions[::-1], 0.2, seed=1) == held_out != hold_out(questions, 0.2, seed=2)


def test_rows_of_the_same_words_are_not_divided_and_too_few_are_refused():
    same = [replace(question, text="Hello?") for question in _suite(rows=5, families=("D1",))]
    with pytest.raises(ValueError, match=r"sft\.validation_share: 0\.5 of 10 questions is 5"):
        hold_out(same, 0.5, seed=0)


def test_make_splits():
    whole = make_splits(DataConfig())
    ids = [set(part) for part in _ids(whole).values()]
    assert all(not a & b for a, b in pairwise([*ids, ids[0]]))
    assert len(set.union(*ids)) == len(load_mini())
    small = make_splits(DataConfig(max_train=32, max_validation=8, max_test=16))
    for name, limit in {"train": 32, "validation": 8, "test": 16}.items():
        assert small[name] == whole[name][:limit]
    assert set(_strata(small["train"]).values()) == {2}
    assert set(_strata(small["test"]).values()) == {1}


def test_other_shares_are_met_and_must_add_up():
    splits = make_splits(DataConfig(shares=(0.6, 0.2, 0.2)))
    assert [len(splits[name]) for name in SPLITS] == [192, 64, 64]
    assert set(_strata(splits["test"]).values()) == {4}
    with pytest.raises(ValueError, match=r"data\.shares: .* add up to 0\.9"):
        DataConfig(shares=(0.6, 0.2, 0.1))
    with pytest.raises(ValueError, match=r"data\.shares"):
        DataConfig(shares=(1.0, 0.0, 0.0))


def test_make_splits_by_scenario_shares_none():
    splits = make_splits(DataConfig(split_by="scenario"))
    shared = [{(q.benchmark, q.scenario_id) for q in part} for part in splits.values()]
    assert all(not a & b for a, b in pairwise([*shared, shared[0]]))
