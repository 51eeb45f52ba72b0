"""The plan of a run: every example once an epoch, few shapes, and packing that changes nothing."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.packing import (
    WINDOW,
    NothingSupervised,
    epoch_batches,
    make_plan,
)
from dart_jax.sft.row_shapes import first_fit, snake_draft

PACKINGS = ("none", "segments", "shared_prefix")


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("n", [1, 7, 8, 64, 65, 200])
def test_each_example_once_an_epoch(n, packing, make_examples):
    batches = epoch_batches(make_examples(n), 8, seed=3, epoch=1, packing=packing)
    assert Counter(i for batch in batches for i in batch) == Counter(range(n))
    assert len(batches) == -(-n // 8)
    assert max(map(len, batches)) <= 8


@pytest.mark.parametrize("packing", PACKINGS)
def test_order_depends_on_seed_and_epoch_only(packing, make_examples):
    examples = make_examples(100)

    def order(examples=examples, seed=3, epoch=1):
        return epoch_batches(examples, 8, seed=seed, epoch=epoch, packing=packing)

    first = order()
    assert first == order([dataclasses.replace(e, id="x", weight=9.0) for e in examples])
    assert first != order(seed=4)
    assert first != order(epoch=2)


def test_few_steps_are_the_first_of_all(make_examples):
    examples, sft = make_examples(30), SftConfig(batch_size=8)
    every, few = (make_plan(examples, sft, epochs=2, seed=3, max_steps=n) for n in (None, 5))
    assert (len(every), len(few)) == (8, 5)
    assert [set(few.ids(step)) for step in range(5)] == [set(every.ids(step)) for step in range(5)]
    assert len(make_plan(examples, sft, epochs=2, seed=3, max_steps=99)) == 8


def test_batch_mates_are_of_similar_length_without_packing(make_examples):
    """Padding is less than half of that of batches cut from a shuffled order."""
    examples = make_examples(8 * WINDOW)
    lengths = np.array([len(e.tokens) for e in examples])

    def padding(batches):
        return sum(lengths[b].max() - lengths[i] for b in batches for i in b)

    shuffled = np.random.default_rng(0).permutation(len(examples)).reshape(-1, 8).tolist()
    assert padding(epoch_batches(examples, 8, 0, 0, "none")) < padding(shuffled) / 2


def test_batches_are_of_similar_total_length_with_packing(make_examples):
    examples = make_examples(8 * WINDOW)
    lengths = np.array([len(e.tokens) for e in examples])

    def spread(batches):
        return np.std([lengths[b].sum() for b in batches])

    shuffled = np.random.default_rng(0).permutation(len(examples)).reshape(-1, 8).tolist()
    assert spread(epoch_batches(examples, 8, 0, 0, "segments")) < spread(shuffled) / 4


def test_snake_drafting_by_hand():
    assert snake_draft([0, 1, 2, 3, 4, 5], 2) == [[0, 3, 4], [1, 2, 5]]
    assert snake_draft([7], 3) == [[7], [], []]


def test_first_fit_by_hand():
    lengths = [4, 9, 3, 6, 2]
    assert first_fit([0, 1, 2, 3, 4], lengths, 10) == [[1], [3, 0], [2, 4]]
    assert first_fit([0, 2], lengths, 10) == [[0, 2]]
    assert first_fit([], lengths, 10) == []


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("packing", PACKINGS)
def test_steps_have_the_same_examples_on_any_number_of_devices(packing, devices, make_examples):
    sft = SftConfig(batch_size=16, micro_batch_size=8, packing=packing, row_length=128)
    examples = make_examples(70)

    def members(plan):
        return [[sorted(x[x >= 0]) for x in plan[i].examples] for i in range(len(plan))]

    one = make_plan(examples, sft, epochs=2, seed=1)
    found = make_plan(examples, sft, epochs=2, seed=1, data_parallel=devices)
    assert members(found) == members(one)
    assert found.digest() == one.digest()
    assert all(found[i].batch.tokens.shape[1] % devices == 0 for i in range(len(found)))


def test_digest_tells_other_data_and_orders_apart(make_examples):
    examples, sft = make_examples(20), SftConfig()
    heavier = [dataclasses.replace(examples[0], weight=2.0), *examples[1:]]
    plans = [
        make_plan(examples, sft, epochs=2, seed=0),
        make_plan(examples, sft, epochs=1, seed=0),
        make_plan(examples, sft, epochs=2, seed=1),
        make_plan(examples[::-1], sft, epochs=2, seed=0),
        make_plan(heavier, sft, epochs=2, seed=0),
        make_plan(examples, dataclasses.replace(sft, batch_size=4), epochs=2, seed=0),
    ]
    assert len({plan.digest() for plan in plans}) == len(plans)


@pytest.mark.parametrize("packing", PACKINGS)
def test_digest_is_of_the_steps_and_not_of_their_layout(packing, make_examples):
    examples = make_examples(20)
    layouts = [(None, 128), (4, 128), (2, 64), (1, 200)]
    plans = [
        make_plan(
            examples,
            SftConfig(micro_batch_size=micro, row_length=row_length, packing=packing),
            epochs=2,
            seed=0,
        )
        for micro, row_length in layouts
    ]
    assert len({plan.digest() for plan in plans}) == 1


@pytest.mark.parametrize("packing", ["segments", "shared_prefix"])
def test_packed_run_has_one_shape_and_little_padding(packing, make_examples):
    """Examples of 9 to 35 tokens: packed, under 15 % is padding; unpacked, over half."""
    examples = make_examples(384)
    sft = SftConfig(batch_size=32, packing=packing, row_length=512)
    plan = make_plan(examples, sft, epochs=1, seed=0)
    assert len({(plan[i].batch.tokens.shape, plan[i].layout) for i in range(len(plan))}) == 1
    unpacked = make_plan(examples, dataclasses.replace(sft, packing="none"), epochs=1, seed=0)
    assert plan.padding_share() < 0.15 < 0.5 < unpacked.padding_share()


def test_example_that_fits_no_row_is_named():
    long = Example("D1-x", tuple(range(1, 41)), 10, 1.0)
    with pytest.raises(ValueError, match=r"D1-x: 40 tokens, more than sft.row_length 32"):
        make_plan([long], SftConfig(packing="segments", row_length=32), epochs=1, seed=0)
    with pytest.raises(ValueError, match="no example"):
        make_plan([], SftConfig(), epochs=1, seed=0)


_EXAMPLES = st.lists(
    st.tuples(st.integers(2, 30), st.integers(1, 20), st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(
    sizes=_EXAMPLES,
    shared=st.integers(0, 9),
    packing=st.sampled_from(["segments", "shared_prefix"]),
    data_parallel=st.sampled_from([1, 2, 3]),
    row_length=st.integers(64, 200),
)
def test_rows_hold_every_example_whole(sizes, shared, packing, data_parallel, row_length):
    """Tokens, targets, weights and positions of each segment are the example's, wherever it is."""
    examples = _make(sizes, shared)
    sft = SftConfig(batch_size=12, packing=packing, row_length=row_length)
    found = make_plan(examples, sft, epochs=1, seed=0, data_parallel=data_parallel)[0]
    batch, layout = found.batch, found.layout
    assert batch.tokens.shape[2] <= row_length
    seen = []
    for place in np.argwhere(found.examples >= 0):
        row, segment = tuple(place[:2]), place[2] + 1
        example = examples[found.examples[tuple(place)]]
        mine = [array[row][batch.segment_ids[row] == segment] for array in batch]
        head = [array[row][batch.segment_ids[row] == -1] for array in batch]
        tokens, targets, weights, positions = (
            np.concatenate(pair) for pair in list(zip(head, mine, strict=True))[:4]
        )
        np.testing.assert_array_equal(tokens, example.tokens)
        np.testing.assert_array_equal(positions, np.arange(len(tokens)))
        assert tuple(targets[weights > 0]) == example.tokens[example.prompt_length :]
        assert set(weights[weights > 0]) == {example.weight}
        assert len(mine[0]) <= layout.slot
        seen.append(found.examples[tuple(place)])
    assert sorted(seen) == list(range(len(examples)))
    assert (batch.loss_weights > 0).sum(axis=2).max() <= layout.supervised


# Few shapes, so that the property below compiles few programs.
_SIZES = st.lists(
    st.tuples(st.integers(2, 12), st.integers(1, 10), st.sampled_from([0.5, 1.0, 2.0, 4.0])),
    min_size=6,
    max_size=6,
)


@settings(max_examples=12, deadline=None)
@given(sizes=_SIZES, packing=st.sampled_from(["segments", "shared_prefix"]))
def test_any_mix_packed_is_that_mix_unpacked(
    sizes, packing, run_gradients, make_batch, assert_close
):
    """Loss and adapter gradients, relative 1e-5 in float32."""
    examples = _make(sizes, shared=4)
    batch, layout = make_batch(examples, packing=packing)
    layout = layout._replace(slot=26, segments=6, supervised=64)
    batch = jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 192 - x.shape[2]))), batch)
    assert_close(run_gradients(batch, layout), run_gradients(*make_batch(examples)))


def _make(sizes, shared):
    rng = np.random.default_rng(0)
    common = rng.integers(1, 131, shared).tolist()
    made = []
    for index, (prompt, completion, weight) in enumerate(sizes):
        own = rng.integers(1, 131, prompt + completion).tolist()
        made.append(Example(f"e{index}", tuple(common + own), shared + prompt, weight))
    return made


@pytest.mark.parametrize(
    "nothing",
    [
        {"weight": 0.0},
        {"weight": 1e-50},
        {"weight": 1e-20, "token_weights": 1e-20},
        {"token_weights": 0.0},
    ],
)
def test_a_step_without_any_weight_is_named(make_examples, nothing):
    """Two batches of two: the one whose examples both weigh nothing in float32."""
    whole = make_examples(4)
    count = len(whole[0].tokens) - whole[0].prompt_length
    changes = dict(nothing)
    if "token_weights" in changes:
        changes["token_weights"] = (changes["token_weights"],) * count
    empty = dataclasses.replace(whole[0], **changes)
    assert not empty.is_supervised

    sft = SftConfig(batch_size=2, micro_batch_size=1)
    make_plan([empty, *whole[1:]], sft, epochs=1, seed=0).check_supervised()  # one of a pair
    with pytest.raises(NothingSupervised, match=rf"step 1: .*{empty.id}, {empty.id}"):
        make_plan([empty, empty], sft, epochs=1, seed=0).check_supervised()
