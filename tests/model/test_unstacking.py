"""Decoding gets a second, unstacked copy of the layers where there is room for it."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dart_jax.model.config import MeshConfig
from dart_jax.model.sharding import make_mesh
from dart_jax.model.unstacking import unstacks_layers

# 2 layers of 64 x 96 numbers in bfloat16.
BYTES = 2 * 64 * 96 * 2


def _layers(devices: int) -> dict:
    mesh = make_mesh(MeshConfig(data=1, fsdp=devices), jax.devices()[:devices])
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    return {"q": jax.ShapeDtypeStruct((2, 64, 96), jnp.bfloat16, sharding=sharding)}


@pytest.mark.parametrize(
    ("platform", "devices", "free", "expected"),
    [
        ("cpu", 1, None, True),
        ("tpu", 1, 100 * BYTES, False),
        ("gpu", 1, 3 * BYTES, True),
        ("gpu", 1, 3 * BYTES - 3, False),
        ("gpu", 1, None, False),
        ("gpu", 4, 3 * BYTES // 4, True),
    ],
)
def test_a_gpu_unstacks_where_the_copy_takes_a_third_of_what_is_free(
    platform, devices, free, expected
):
    assert unstacks_layers(_layers(devices), platform, free) == expected
