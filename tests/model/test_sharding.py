"""Eight simulated devices against one."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes
from dart_jax.model.lora import lora_axes
from dart_jax.model.sharding import make_mesh, replicated, sharding_of, tree_shardings


@pytest.fixture(scope="module")
def devices():
    return jax.devices()[:8]


def test_mesh_fills_in_the_rest(devices):
    assert dict(make_mesh(MeshConfig(), devices).shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    mesh = make_mesh(MeshConfig(data=2, fsdp=-1, tensor=2), devices)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize(
    "sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 8), (-2, 2, 2), (-1, 16, 1)]
)
def test_mesh_that_does_not_fit(sizes, devices):
    with pytest.raises(ValueError, match="mesh: "):
        make_mesh(MeshConfig(*sizes), devices)


def test_undivided_dimensions_stay_whole(devices):
    mesh = make_mesh(MeshConfig(1, 2, 4), devices)
    spec = lambda axes, shape: sharding_of(mesh, axes, shape).spec  # noqa: E731
    assert spec(("embed", "heads"), (6, 8)) == PartitionSpec("fsdp", "tensor")
    assert spec(("embed", "heads"), (6, 9)) == PartitionSpec("fsdp", None)
    assert spec(("embed", "heads"), (7, 9)) == PartitionSpec(None, None)
    assert spec(("batch", None), (4, 6)) == PartitionSpec(("data", "fsdp"), None)
    assert spec(("batch", None), (3, 6)) == PartitionSpec(None, None)
    assert replicated(mesh).spec == PartitionSpec()


def test_rank_of_axes_and_array_must_agree(devices):
    with pytest.raises(ValueError):
        sharding_of(make_mesh(MeshConfig(), devices), ("embed",), (4, 4))


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_forward_on_a_mesh_is_forward_on_one_device(
    sizes, devices, config, params, lora, lora_params, logits
):
    """67 words, 2 kv heads and 48 features: some dimensions are split, some stay whole."""
    tokens = jax.random.randint(jax.random.key(4), (8, 12), 0, config.vocab_size)
    expected = logits(config, params, tokens, lora_params, lora.scale)
    mesh = make_mesh(MeshConfig(*sizes), devices)
    placed = [
        jax.device_put(tree, tree_shardings(mesh, axes, tree))
        for tree, axes in ((params, param_axes(config)), (lora_params, lora_axes(lora_params)))
    ]
    split = [leaf for leaf in jax.tree.leaves(placed) if not leaf.is_fully_replicated]
    assert bool(split) == (sizes != (8, 1, 1))
    placed_tokens = jax.device_put(tokens, sharding_of(mesh, ("batch", None), tokens.shape))
    found = logits(config, placed[0], placed_tokens, placed[1], lora.scale)
    np.testing.assert_allclose(found, expected, atol=1e-5)
