"""What an adapter must leave alone, and what it adds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.config import LoraConfig
from dart_jax.model.lora import (
    KEPT,
    adapter_deltas,
    dropout,
    init_lora,
    lora_axes,
    merge_lora,
    projection_shapes,
)


@pytest.fixture(scope="module")
def base(config, params, tokens, logits):
    return logits(config, params, tokens)


def test_zero_b_is_the_base(config, params, tokens, lora, logits, base):
    fresh = init_lora(jax.random.key(0), config, lora)
    np.testing.assert_array_equal(logits(config, params, tokens, fresh, lora.scale), base)


def test_scale_zero_is_the_base(config, params, tokens, lora_params, logits, base):
    np.testing.assert_array_equal(logits(config, params, tokens, lora_params, 0.0), base)
    assert np.abs(logits(config, params, tokens, lora_params, 3.0) - base).max() > 0.1


def test_merged_is_unmerged(config, params, tokens, lora, lora_params, logits):
    merged = merge_lora(params, lora_params, lora.scale)
    adapted = logits(config, params, tokens, lora_params, lora.scale)
    np.testing.assert_allclose(logits(config, merged, tokens), adapted, atol=5e-5)


def test_merge_keeps_the_base_dtype_and_the_rest(params, lora_params):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    only_q = merge_lora(half, {"q": lora_params["q"]}, 3.0)
    assert only_q["layers"]["q"].dtype == jnp.bfloat16
    assert only_q["layers"]["k"] is half["layers"]["k"]


@pytest.mark.parametrize("target", ["q", "k", "v", "o", "gate", "up", "down"])
def test_each_target_acts(target, config, params, tokens, lora_params, logits, base):
    """Alone, every target changes the logits, and as its merged weights do."""
    alone = {target: lora_params[target]}
    found = logits(config, params, tokens, alone, 3.0)
    assert np.abs(found - base).max() > 1e-3
    merged = logits(config, merge_lora(params, alone, 3.0), tokens)
    np.testing.assert_allclose(found, merged, atol=5e-5)


def test_fresh_adapter(config):
    """B = 0; A fills the Kaiming-uniform interval of its own fan-in; targets as configured."""
    fresh = init_lora(jax.random.key(3), config, LoraConfig(rank=16, targets=("down", "q")))
    assert list(fresh) == ["down", "q"]
    for target, weights in fresh.items():
        fan_in, fan_out = projection_shapes(config)[target]
        assert weights["A"].shape == (config.num_layers, fan_in, 16)
        assert weights["B"].shape == (config.num_layers, 16, fan_out)
        assert not weights["B"].any()
        bound = fan_in**-0.5
        assert 0.95 * bound < jnp.abs(weights["A"]).max() <= bound
        assert weights["A"].std() == pytest.approx(bound / 3**0.5, rel=0.1)
    ranks = jax.tree.map(len, lora_axes(fresh), is_leaf=lambda node: isinstance(node, tuple))
    assert ranks == jax.tree.map(jnp.ndim, fresh)


def test_delta_by_hand():
    weights = {"A": jnp.array([[1.0], [2.0]]), "B": jnp.array([[10.0, 0.0, -1.0]])}
    other = {"A": jnp.array([[0.0], [1.0]]), "B": jnp.array([[1.0, 0.0]])}
    x = jnp.array([[[3.0, 4.0]]])
    found = adapter_deltas(x, {"q": weights, "k": other}, 0.5, jnp.float32)
    np.testing.assert_allclose(found["q"], [[[55.0, 0.0, -5.5]]])
    np.testing.assert_allclose(found["k"], [[[2.0, 0.0]]])
    assert adapter_deltas(x, {}, 0.5, jnp.float32) == {}


def test_dropout_only_with_key_and_rate():
    x = jax.random.normal(jax.random.key(0), (4, 5))
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(1)) is x


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_dropout_keeps_the_mean(rate):
    found = np.asarray(dropout(jnp.ones((400, 500)), rate, jax.random.key(1)))
    assert (found == 0).mean() == pytest.approx(rate, abs=0.005)
    assert found.mean() == pytest.approx(1.0, abs=0.005)
    assert len(np.unique(found)) == 2


@pytest.mark.parametrize("rows", [1, 8, 21])
def test_dropout_is_remembered_as_bits(rows):
    """The noise is that of before there were bits, and the backward pass gets an eighth of it."""
    shape, rate, key = (2, rows, 36), 0.3, jax.random.key(1)
    x = jax.random.normal(jax.random.key(0), shape)
    words = jax.random.bits(key, (2, rows, 9), jnp.uint32)
    drawn = np.concatenate([words >> shift & 0xFF for shift in (0, 8, 16, 24)], axis=-1)
    extra = jax.random.bernoulli(jax.random.fold_in(key, 0), 0.3 * 256 % 1, (2, rows, 1))
    expected = np.where(drawn >= 76 + np.asarray(extra), x * (1 / 0.7), 0)

    policy = jax.checkpoint_policies.save_only_these_names(KEPT)
    remembering = jax.checkpoint(lambda x: dropout(x, rate, key), policy=policy)
    found, backward = jax.vjp(remembering, x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(backward(x)[0], expected, rtol=1e-6)
    assert max(leaf.nbytes for leaf in jax.tree.leaves(backward)) == 2 * -(-rows // 8) * 36


def test_scale_is_alpha_over_rank():
    assert LoraConfig(rank=8, alpha=20.0).scale == 2.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ("q", "w")}, "lora.targets: w; give some of q, k"),
        ({"targets": ()}, "lora.targets: .*give one or more"),
        ({"rank": 0}, "lora.rank: 0"),
        ({"dropout": 1.0}, "lora.dropout: 1.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)
