"""Few shapes, chosen for all steps together: no step is padded to a rare long example."""

import itertools
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dart_jax.pipeline.footprint import batch_shape
from dart_jax.settings import BadSetting
from dart_jax.sft import row_shapes
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.packing import make_plan
from dart_jax.sft.row_shapes import MOST_SHAPES, PAIRS_OF_A_TOKEN

PACKINGS = ("none", "segments", "shared_prefix")


def texts(lengths, shared=5):
    """Examples of these lengths, a third of each learnt, whose prompts begin alike."""
    rng = np.random.default_rng(0)
    common = rng.integers(1, 131, shared).tolist()
    found = []
    for index, length in enumerate(lengths):
        tokens = (*common, *rng.integers(1, 131, length - shared).tolist())
        found.append(Example(f"e{index}", tokens, length - length // 3, 1.0))
    return found


def computed(plan):
    """Tokens of all rows, padding included."""
    return sum(steps * a * b * t for (a, b, t, _), steps in plan.shapes().items())


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_rare_long_example_has_a_shape_of_its_own(packing):
    """One of 1,800 tokens among 200 of about 200: only its three steps of 78 are padded to it."""
    lengths = np.random.default_rng(1).integers(150, 250, 200).tolist()
    sft = SftConfig(packing=packing, max_length=2048)
    usual = make_plan(texts(lengths), sft, epochs=3, seed=0)
    mixed = make_plan(texts([*lengths, 1800]), sft, epochs=3, seed=0)

    shapes = mixed.shapes()
    assert [steps for (_, _, length, _), steps in shapes.items() if length >= 1800] == [3]
    assert computed(mixed) < 1.4 * computed(usual)
    if packing != "none":
        assert mixed.padding_share() < 0.12


@pytest.mark.parametrize("packing", PACKINGS)
def test_no_training_has_more_than_a_few_programs(packing, monkeypatch):
    """Lengths spread over 3,000 tokens, and programs that cost nothing."""
    monkeypatch.setattr(row_shapes, "PROGRAM_TOKENS", 0)
    lengths = np.random.default_rng(2).geometric(1 / 400, 600).clip(10, 3000).tolist()
    sft = SftConfig(packing=packing, max_length=3000, row_length=4096)
    plan = make_plan(texts(lengths), sft, epochs=1, seed=0)
    assert len(plan.shapes()) == MOST_SHAPES
    again = make_plan(texts(lengths), sft, epochs=1, seed=0)
    assert plan.steps == again.steps
    for shape in plan.shapes():
        assert f"{plan.shapes()[shape]} of {shape[0]} x {shape[1]} x {shape[2]}" in plan.summary()


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([60, 120, 250, 500, 900, 1000]), min_size=3, max_size=9),
    program=st.sampled_from([0, 300, 2000, 10**9]),
)
def test_the_shapes_are_those_of_least_cost(lengths, program):
    """Against every way to round the lengths of unpacked rows up to at most four of them."""
    sft = SftConfig(batch_size=1, packing="none", max_length=1024)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_shapes, "PROGRAM_TOKENS", program)
        plan = make_plan(texts(lengths), sft, epochs=1, seed=0)

    def cost(length):
        return length + length**2 / PAIRS_OF_A_TOKEN

    def total(tops):
        rounded = [min(top for top in tops if top >= length) for length in lengths]
        return sum(map(cost, rounded)) + program * len(tops)

    found = total([t for _, _, t, _ in plan.shapes()])
    buckets = sorted({-(-length // 64) * 64 for length in lengths})
    choices = (
        (*few, buckets[-1])
        for count in range(MOST_SHAPES)
        for few in itertools.combinations(buckets[:-1], count)
    )
    assert found == min(map(total, choices))


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(10, 250), min_size=1, max_size=40),
    packing=st.sampled_from(PACKINGS),
    devices=st.sampled_from([1, 2, 8]),
    tokens=st.sampled_from([None, 256, 300, 512, 2048]),
)
def test_no_step_is_larger_than_was_reckoned_with(lengths, packing, devices, tokens):
    """By `batch_shape`, of which the memory is said before a run; and within the limit."""
    sft = SftConfig(
        batch_size=8,
        packing=packing,
        max_length=256,
        row_length=512,
        micro_batch_tokens=tokens,
    )
    plan = make_plan(texts(lengths), sft, epochs=1, seed=0, data_parallel=devices)
    _, rows, length = batch_shape(sft, devices)
    for _, b, t, _ in plan.shapes():
        assert b % devices == 0
        assert tokens is None or b // devices * t <= tokens
        # A limit that is no multiple of a row's length may be used up by other lengths.
        if tokens != 300:
            assert b * t <= rows * length
    members = Counter(id for step in range(len(plan)) for id in plan.ids(step))
    assert members == Counter(f"e{index}" for index in range(len(lengths)))


def test_micro_batches_by_tokens_are_fewer_on_more_devices():
    """Sixteen examples of 120 to 384 tokens a step; eight examples a micro-batch are 2 x 8 x 384.

    On eight devices more than half of that is padding; of one micro-batch by tokens, a third.
    """
    lengths = np.random.default_rng(1).lognormal(5.2, 0.35, 400).clip(120, 384).astype(int)
    examples = texts(lengths.tolist(), shared=83)

    def plan(devices, **setting):
        sft = SftConfig(batch_size=16, **setting)
        return make_plan(examples, sft, epochs=1, seed=0, data_parallel=devices)

    def micro_batches(devices, tokens):
        return {a for a, *_ in plan(devices, micro_batch_tokens=tokens).shapes()}

    assert plan(8, micro_batch_size=8).padding_share() > 0.5
    assert plan(8, micro_batch_tokens=1024).padding_share() < 0.34
    assert micro_batches(1, 1024) == {4} and micro_batches(8, 1024) == {1}
    assert micro_batches(1, 8192) == {1}


def test_limits_that_contradict_each_other_are_named():
    with pytest.raises(BadSetting, match=r"micro_batch_tokens: 2048; .*micro_batch_size, which"):
        SftConfig(micro_batch_tokens=2048, micro_batch_size=4)
    with pytest.raises(BadSetting, match=r"micro_batch_tokens: 512; give sft\.max_length.* 1024"):
        SftConfig(micro_batch_tokens=512)


def test_how_micro_batches_are_chosen_is_no_identity():
    assert SftConfig(micro_batch_tokens=4096).identity() == SftConfig().identity()


def test_a_step_of_another_shape_is_that_of_separate_rows(
    monkeypatch, make_batch, run_gradients, assert_close
):
    """A long example among short ones, cut by tokens: two shapes, the gradients of `none`."""
    monkeypatch.setattr(row_shapes, "PROGRAM_TOKENS", 0)
    lengths = [20, 24, 18, 22, 19, 21, 23, 200]
    examples = texts(lengths)
    sft = SftConfig(batch_size=4, max_length=200, row_length=256, micro_batch_tokens=200)
    plan = make_plan(examples, sft, epochs=1, seed=0)
    assert len(plan) == len(plan.shapes()) == 2

    (long,) = (step for step in range(2) if "e7" in plan.ids(step))
    step = plan[long]
    assert step.batch.tokens.shape[0] > 1
    members = [examples[i] for i in step.examples.ravel() if i >= 0]
    found = run_gradients(jax.tree.map(np.asarray, step.batch), step.layout)
    assert_close(found, run_gradients(*make_batch(members)))
