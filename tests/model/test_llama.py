"""The decoder against `transformers`, and the identities that it must keep."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.llama import (
    forward,
    head_kernel,
    init_params,
    logits_of,
    param_axes,
    param_shapes,
    rms_norm,
)
from dart_jax.model.load import open_checkpoint
from dart_jax.model.weights import load_params


@pytest.mark.parametrize(
    ("name", "shard_size"),
    [
        ("mha_untied", "1GB"),
        ("gqa_tied", "20KB"),
        ("mqa_wide_heads", "1GB"),
        ("llama31_rope", "20KB"),
        ("qwen2", "20KB"),
        ("qwen3", "1GB"),
        ("mistral", "1GB"),
    ],
)
def test_logits_match_transformers(name, shard_size, shapes, hf_model, hf_logits, logits, tmp_path):
    """From a saved checkpoint, over positions far beyond the original context of the scaling."""
    config = shapes[name]
    twin = hf_model(config)
    twin.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "20KB")
    found, source = open_checkpoint(tmp_path)
    assert found == config
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, 96))
    ours = logits(found, load_params(found, source, jnp.float32), tokens)
    expected = hf_logits(twin, tokens)
    assert expected.std() > 0.3
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_rope_scaling_shows_in_logits(shapes, params, logits):
    """The parity above means something: without the scaling the logits are others."""
    scaled = shapes["llama31_rope"]
    plain = dataclasses.replace(scaled, rope_scaling=None)
    tokens = np.arange(60)[None]
    assert np.abs(logits(scaled, params, tokens) - logits(plain, params, tokens)).max() > 1e-2


def test_packed_is_separate(config, params, logits):
    """Two texts in one row give what each gives alone, whatever padding follows."""
    first, second = np.array([[5, 9, 2, 7]]), np.array([[1, 3, 8, 8, 4, 6]])
    tokens = jnp.concatenate([first, second, np.zeros((1, 3), int)], axis=1)
    positions = jnp.array([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0, 0, 0]])
    segment_ids = jnp.array([[1] * 4 + [2] * 6 + [0] * 3])
    attention = dense_attention(segment_mask(positions, segment_ids))

    @jax.jit
    def run(params):
        hidden, cache = forward(config, params, {}, tokens, positions, attention, lora_scale=0.0)
        assert cache is None
        return logits_of(params, hidden)

    packed = np.asarray(run(params))
    assert np.isfinite(packed).all()
    np.testing.assert_allclose(packed[:, :4], logits(config, params, first), atol=1e-5)
    np.testing.assert_allclose(packed[:, 4:10], logits(config, params, second), atol=1e-5)


@pytest.mark.parametrize("policy", ["projections", "layer"])
def test_remat_is_no_remat(config, params, lora_params, tokens, policy):
    """Same value and same adapter gradients, under the same dropout."""
    lora_params = {target: lora_params[target] for target in ("q", "down")}
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    attention = dense_attention(segment_mask(positions, jnp.ones_like(tokens)))

    def loss(lora_params, remat):
        hidden, _ = forward(
            config,
            params,
            lora_params,
            tokens,
            positions,
            attention,
            lora_scale=3.0,
            dropout_rate=0.3,
            dropout_key=jax.random.key(7),
            remat=remat,
        )
        return jnp.mean(jnp.sin(hidden))

    run = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    value, grads = run(lora_params, "none")
    value_again, grads_again = run(lora_params, policy)
    np.testing.assert_allclose(value, value_again, rtol=1e-5)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), grads, grads_again)


def test_program_does_not_grow_with_depth(config):
    def program(num_layers):
        deep = dataclasses.replace(config, num_layers=num_layers)
        tokens = jax.ShapeDtypeStruct((1, 5), jnp.int32)
        mask = jax.ShapeDtypeStruct((1, 5, 5), jnp.bool_)

        def run(params, tokens, positions, mask):
            attention = dense_attention(mask)
            return forward(deep, params, {}, tokens, positions, attention, lora_scale=0.0)[0]

        return str(jax.make_jaxpr(run)(param_shapes(deep), tokens, tokens, mask)).count("\n")

    assert program(2) == program(24)


def test_shapes_axes_and_init_agree(shapes):
    for config in shapes.values():
        expected, axes = param_shapes(config), param_axes(config)
        draw = partial(init_params, config=config, dtype=jnp.bfloat16)
        found = jax.eval_shape(draw, jax.random.key(0))
        assert jax.tree.map(jnp.shape, found) == jax.tree.map(lambda leaf: leaf.shape, expected)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("bfloat16")}
        assert ("head" in found) == (not config.tied_head)
        ranks = jax.tree.map(len, axes, is_leaf=lambda node: isinstance(node, tuple))
        assert ranks == jax.tree.map(lambda leaf: leaf.ndim, expected)
        assert axes["layers"]["o"] == ("layers", "heads", "embed")


def test_tied_head_is_the_embedding(shapes):
    config = shapes["gqa_tied"]
    params = jax.jit(init_params, static_argnums=1)(jax.random.key(0), config)
    np.testing.assert_array_equal(head_kernel(params), params["embed"].T)


def test_logits_are_float32_from_bfloat16(params):
    head = {"head": params["head"].astype(jnp.bfloat16)}
    assert logits_of(head, jnp.ones((2, 32), jnp.bfloat16)).dtype == jnp.float32


def test_rms_norm_by_hand():
    """rms of (3, 4) is sqrt(12.5); with eps 12.5 the divisor is 5."""
    x, weight = jnp.array([[[3.0, 4.0]]]), jnp.array([1.0, 10.0])
    np.testing.assert_allclose(rms_norm(x, weight, 12.5), [[[0.6, 8.0]]], rtol=1e-6)
