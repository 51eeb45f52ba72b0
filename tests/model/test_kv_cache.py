"""The cache writes where it is told, and nowhere else."""

import jax.numpy as jnp
import numpy as np

from dart_jax.model.kv_cache import empty_cache, write_slots


def test_write_touches_its_slots_only(config):
    cache = empty_cache(config, 2, 7, jnp.dtype("bfloat16"))
    assert len(cache) == 3
    assert cache[0].key.shape == cache[0].value.shape == (2, 2, 7, 8)
    assert cache[0].key.dtype == jnp.bfloat16
    new = jnp.arange(2 * 3 * 2 * 8, dtype=jnp.float32).reshape(2, 3, 2, 8) + 1
    written = write_slots(cache[1], jnp.array(4), new, -new)
    expected = np.zeros((2, 2, 7, 8), np.float32)
    expected[:, :, 4:7] = np.swapaxes(new, 1, 2)
    np.testing.assert_array_equal(written.key.astype(jnp.float32), expected)
    np.testing.assert_array_equal(written.value.astype(jnp.float32), -expected)
