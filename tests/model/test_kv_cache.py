"""The cache writes where it is told, and nowhere else."""

import jax.numpy as jnp
import numpy as np

from dart_jax.model.kv_cache import empty_cache, write_layer


def test_write_touches_one_layer_and_its_slots(config):
    cache = empty_cache(config, 2, 7, jnp.dtype("bfloat16"))
    assert cache.key.shape == cache.value.shape == (3, 2, 2, 7, 8)
    assert cache.key.dtype == jnp.bfloat16
    new = jnp.arange(2 * 3 * 2 * 8, dtype=jnp.float32).reshape(2, 3, 2, 8) + 1
    cache, key, value = write_layer(cache, jnp.array(1), jnp.array(4), new, -new)
    expected = np.zeros((3, 2, 2, 7, 8), np.float32)
    expected[1, :, :, 4:7] = np.swapaxes(new, 1, 2)
    np.testing.assert_array_equal(cache.key.astype(jnp.float32), expected)
    np.testing.assert_array_equal(cache.value.astype(jnp.float32), -expected)
    np.testing.assert_array_equal(key, cache.key[1])
    np.testing.assert_array_equal(value, cache.value[1])
