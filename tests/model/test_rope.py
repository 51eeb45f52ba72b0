"""Rotary frequencies against transformers, and what a rotation must keep."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.architecture import RopeScaling, to_hf_config
from dart_jax.model.rope import rope_frequencies, rope_tables, rotate


@pytest.mark.parametrize("scaling", [None, RopeScaling(32.0, 1.0, 4.0, 8192)])
def test_frequencies_are_transformers(scaling, config):
    """With the sizes of Llama 3.2: some kept, some blended, some stretched."""
    pytest.importorskip("torch")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    real = dataclasses.replace(
        config, embed_dim=512, head_dim=128, rope_theta=5e5, rope_scaling=scaling
    )
    twin = LlamaRotaryEmbedding(LlamaConfig(**to_hf_config(real)))
    np.testing.assert_allclose(rope_frequencies(real), twin.inv_freq.numpy(), rtol=1e-5)


def test_scaling_keeps_fast_and_stretches_slow(config):
    wide = dataclasses.replace(config, head_dim=128, rope_theta=5e5)
    plain = rope_frequencies(wide)
    scaling = RopeScaling(8.0, 1.0, 4.0, 8192)
    divisors = plain / rope_frequencies(dataclasses.replace(wide, rope_scaling=scaling))
    np.testing.assert_allclose(divisors[[0, -1]], [1.0, 8.0], rtol=1e-6)
    assert ((divisors > 1.01) & (divisors < 7.99)).any()
    assert (np.diff(divisors) >= -1e-5).all()


def test_rotation_by_hand():
    """A quarter turn sends (1, 0) to (0, 1); features i and i + H/2 are one pair."""
    cos, sin = rope_tables(jnp.array([[1]]), np.array([np.pi / 2, 0.0], np.float32))
    x = jnp.array([[[[1.0, 2.0, 0.0, 3.0]]]])
    np.testing.assert_allclose(rotate(x, cos, sin), [[[[0.0, 2.0, 1.0, 3.0]]]], atol=1e-6)


def test_scores_depend_on_distance_only(config):
    x = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, config.head_dim))

    def score(query_at, key_at):
        frequencies = rope_frequencies(config)
        q = rotate(x[0], *rope_tables(jnp.array([[query_at]]), frequencies))
        k = rotate(x[1], *rope_tables(jnp.array([[key_at]]), frequencies))
        return float(jnp.sum(q * k))

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-3)
