"""A step is one batch however it is cut: into micro-batches, rows, copies or devices."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes
from dart_jax.model.sharding import data_parallel, make_mesh, tree_shardings
from dart_jax.sft.config import SftConfig
from dart_jax.sft.jitted_step import jit_step
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import (
    TrainState,
    place_batch,
    state_shardings,
    train_step,
)

NORMALIZATIONS = ("weighted_token_mean", "token_mean", "example_mean")


@pytest.mark.parametrize(
    ("micro_batches", "normalization"),
    [
        (2, "weighted_token_mean"),
        (4, "weighted_token_mean"),
        (2, "example_mean"),
        (4, "token_mean"),
    ],
)
def test_micro_batches_are_one_batch(
    micro_batches, normalization, make_examples, make_batch, run_gradients, assert_close
):
    examples = make_examples(7, weights=(1.0, 2.0, 3.0))
    whole = run_gradients(*make_batch(examples, 8), normalization)
    cut = run_gradients(*make_batch(examples, 8, micro_batches), normalization)
    assert_close(cut, whole)


@pytest.mark.parametrize(
    ("packing", "normalization"),
    [
        ("segments", "example_mean"),
        *(("shared_prefix", normalization) for normalization in NORMALIZATIONS),
    ],
)
def test_packed_is_separate(
    packing, normalization, make_examples, make_batch, run_gradients, assert_close
):
    """In one row, in several, and in the micro-batches and rows of four devices."""
    examples = make_examples(8, weights=(1.0, 4.0))
    separate = run_gradients(*make_batch(examples), normalization)
    assert_close(run_gradients(*make_batch(examples, packing=packing), normalization), separate)
    several = make_batch(examples, 8, 2, packing, data_parallel=4, row_length=80)
    assert several[0].tokens.shape[:2] == (2, 4)
    assert_close(run_gradients(*several, normalization), separate)


def _with_weights(examples, weights):
    return [dataclasses.replace(e, weight=w) for e, w in zip(examples, weights, strict=True)]


def test_weight_k_is_k_copies(make_examples, make_batch, run_gradients, assert_close):
    plain = make_examples(3)
    copies = [e for e, k in zip(plain, (1, 2, 4), strict=True) for _ in range(k)]
    weighted = run_gradients(*make_batch(_with_weights(plain, (1.0, 2.0, 4.0)), 8))
    assert_close(weighted, run_gradients(*make_batch(copies, 8)))
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(weighted, run_gradients(*make_batch(plain, 8)))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_zero_weight_contributes_nothing(
    normalization, make_examples, make_batch, run_gradients, assert_close
):
    plain = make_examples(3)
    without = run_gradients(*make_batch(plain[:2], 8), normalization)
    silent = _with_weights(plain, (1.0, 1.0, 0.0))
    assert_close(run_gradients(*make_batch(silent, 8), normalization), without)


def test_every_adapter_gets_a_gradient(
    config, make_examples, make_batch, run_gradients, lora_params
):
    grads, value = run_gradients(*make_batch(make_examples(3), 8))
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, lora_params)
    assert all(jnp.abs(layer).max() > 0 for leaf in jax.tree.leaves(grads) for layer in leaf)
    assert float(value) == pytest.approx(np.log(config.vocab_size), rel=0.8)


@pytest.fixture(scope="module")
def optimizer():
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))


@pytest.fixture(scope="module")
def fresh(lora_params, optimizer):
    return TrainState(jnp.zeros((), jnp.int32), lora_params, optimizer.init(lora_params))


@pytest.fixture(scope="module")
def one_step(make_spec, optimizer, params):
    """A function: `train_step` on one device, with this dropout."""
    compiled = jax.jit(train_step, static_argnames=("spec", "optimizer", "layout"))

    def run(state, batch, layout, key, rate=0.0):
        spec = make_spec()
        spec = spec._replace(lora=dataclasses.replace(spec.lora, dropout=rate))
        return compiled(state, params, batch, key, None, layout, spec=spec, optimizer=optimizer)

    return run


def test_batch_without_weight_has_loss_zero(one_step, fresh, make_examples, make_batch):
    """Not 0/0: no nan anywhere, and the adapter stays but for AdamW's decay of 1e-4."""
    silent = make_batch(make_examples(3, weights=(0.0,)), 8, 2)
    state, metrics = one_step(fresh, *silent, jax.random.key(0))
    assert (metrics.loss, metrics.grad_norm) == (0, 0)
    assert not any(sums.any() for sums in metrics.examples)
    assert metrics.tokens > 0
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    stays = partial(np.testing.assert_allclose, rtol=2e-6)
    jax.tree.map(stays, state.lora_params, fresh.lora_params)


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
def test_metrics_by_hand(packing, one_step, fresh, make_examples, make_batch, run_gradients):
    """Sums of every example, in the place that the plan says; a shared prefix counts once."""
    examples = make_examples(3, weights=(1.0, 2.0))
    sft = SftConfig(batch_size=8, micro_batch_size=4, packing=packing)
    step_batch = make_plan(examples, sft, epochs=1, seed=0)[0]
    batch = jax.tree.map(jnp.asarray, step_batch.batch)
    _, metrics = one_step(fresh, batch, step_batch.layout, jax.random.key(0))
    found = {}
    for index, *sums in zip(
        step_batch.examples.ravel(), *(np.ravel(x) for x in metrics.examples), strict=True
    ):
        if index < 0:
            assert not any(sums)
        else:
            found[index] = sums
    assert sorted(found) == [0, 1, 2]
    for index, (loss, weight, tokens) in found.items():
        example = examples[index]
        alone = dataclasses.replace(example, weight=1.0)
        assert tokens == len(example.tokens) - example.prompt_length
        assert weight == example.weight * tokens
        assert loss == pytest.approx(
            tokens * float(run_gradients(*make_batch([alone]))[1]), rel=1e-5
        )
    shared = 5 if packing == "shared_prefix" else 0
    copies = np.count_nonzero((np.asarray(batch.segment_ids) != 0).any(axis=-1))
    expected = sum(len(e.tokens) - shared for e in examples) + copies * shared
    assert float(metrics.tokens) == expected
    assert metrics.update_norm > 0


def test_dropout_depends_on_key_and_step(one_step, fresh, make_examples, make_batch):
    batch = make_batch(make_examples(4), 8, 2)

    def loss(seed, count, rate=0.3):
        state = fresh._replace(step=jnp.asarray(count, jnp.int32))
        return float(one_step(state, *batch, jax.random.key(seed), rate)[1].loss)

    base = loss(0, 0)
    assert loss(0, 0) == base
    assert len({base, loss(1, 0), loss(0, 1), loss(0, 0, rate=0.0)}) == 4


def test_micro_batches_drop_different_features(one_step, fresh, make_examples, make_batch):
    """The same examples in both halves of a step: their loss is another in each."""
    examples = make_examples(4)

    def loss(*halves, rate):
        weighted = [dataclasses.replace(e, weight=w) for w in halves for e in examples]
        batch = make_batch(weighted, 8, 2)
        return float(one_step(fresh, *batch, jax.random.key(0), rate)[1].loss)

    assert loss(1.0, 0.0, rate=0.0) == pytest.approx(loss(0.0, 1.0, rate=0.0), rel=1e-6)
    assert loss(1.0, 0.0, rate=0.3) != pytest.approx(loss(0.0, 1.0, rate=0.3), rel=1e-4)


def _three_steps(sizes, packing, make_spec, optimizer, params, fresh, examples):
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: math.prod(sizes)])
    sft = SftConfig(batch_size=16, micro_batch_size=8, packing=packing)
    plan = make_plan(examples, sft, epochs=3, seed=2, data_parallel=data_parallel(mesh))
    spec = make_spec()
    base = jax.device_put(params, tree_shardings(mesh, param_axes(spec.config), params))
    state = jax.device_put(jax.tree.map(jnp.copy, fresh), state_shardings(fresh, mesh))
    step = jit_step(spec._replace(mesh=mesh), optimizer, fresh, base)
    losses = []
    for index in range(len(plan)):
        before, found = state, plan[index]
        batch = place_batch(found.batch, mesh)
        state, metrics = step(before, base, batch, jax.random.key(5), None, found.layout)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.lora_params))
        losses.append(float(metrics.loss))
    return losses, state, mesh


@pytest.fixture(scope="module")
def one_device(make_spec, optimizer, params, fresh, make_examples):
    args = ("none", make_spec, optimizer, params, fresh, make_examples(15, (1.0, 3.0)))
    return _three_steps((1, 1, 1), *args), args


def test_eight_devices_are_one(one_device):
    """Losses and adapters of three steps of two micro-batches; test_processes.py has more meshes.

    Without dropout: its noise goes with a token's place, which packing for more rows changes.
    """
    (expected, expected_state, _), args = one_device
    losses, state, mesh = _three_steps((2, 2, 2), *args)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert len(set(losses)) == 3
    # Adam divides by the root of tiny second moments: its updates carry more noise.
    close = partial(np.testing.assert_allclose, atol=2e-5)
    jax.tree.map(close, state.lora_params, expected_state.lora_params)
    jax.tree.map(
        lambda leaf, sharding: sharding.is_equivalent_to(leaf.sharding, leaf.ndim) or pytest.fail(),
        state,
        state_shardings(state, mesh),
    )


def test_state_is_sharded_as_the_table_says(fresh):
    """Adapters over all devices that divide them, moments like them, counters whole."""
    both = ("tensor", "fsdp")
    found = state_shardings(fresh, make_mesh(MeshConfig(1, 4, 2), jax.devices()[:8]))
    expected = {
        "q": {"A": (None, both, None), "B": (None, None, both)},
        "k": {"A": (None, both, None), "B": (None, None, both)},
        "o": {"A": (None, both, None), "B": (None, None, both)},
        "down": {"A": (None, both, None), "B": (None, None, both)},
    }
    adam = found.opt_state[1][0]
    for target, matrices in expected.items():
        for matrix, axes in matrices.items():
            for tree in (found.lora_params, adam.mu, adam.nu):
                assert tree[target][matrix].spec == PartitionSpec(*axes)
    assert found.step.spec == adam.count.spec == PartitionSpec()
