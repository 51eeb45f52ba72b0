"""Eight simulated devices against one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dart_jax.model.attention import dense_attention
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import forward, param_axes
from dart_jax.model.lora import lora_axes
from dart_jax.model.quantize import quantize_params
from dart_jax.model.sharding import (
    constrain,
    gather_weights,
    make_mesh,
    replicated,
    sharding_of,
    tree_shardings,
)


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
    with pytest.raises(ValueError, match=r"mesh\.data: "):
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


def _place(mesh, tree, axes):
    return jax.device_put(tree, tree_shardings(mesh, axes, tree))


def test_arrays_of_a_quantised_weight_have_its_axes(devices, params, config):
    mesh = make_mesh(MeshConfig(1, 4, 2), devices)
    quantised = quantize_params(params, "int8")
    q = tree_shardings(mesh, param_axes(config), quantised)["layers"]["q"]
    assert q.qvalue.spec == PartitionSpec(None, "fsdp", "tensor")
    assert q.scale.spec == PartitionSpec(None, None, "tensor")


def test_gathered_weights_keep_their_tensor_shards(devices):
    mesh = make_mesh(MeshConfig(1, 4, 2), devices)
    weights = {"A": jnp.arange(64.0).reshape(16, 4), "gate": jnp.arange(64.0).reshape(8, 8)}
    axes = {"A": ("adapter", "rank"), "gate": ("embed", "ffn")}
    found = jax.jit(lambda w: gather_weights(w, axes, mesh))(_place(mesh, weights, axes))
    specs = {"A": PartitionSpec("tensor", None), "gate": PartitionSpec(None, "tensor")}
    for name, weight in found.items():
        expected = jax.NamedSharding(mesh, specs[name])
        assert weight.sharding.is_equivalent_to(expected, 2)
        np.testing.assert_array_equal(weight, weights[name])


def test_without_a_mesh_nothing_is_laid_out():
    x = {"w": jnp.ones((4, 4))}
    assert constrain(x["w"], None, "batch", None) is x["w"]
    assert gather_weights(x, {"w": ("embed", "ffn")}, None) is x


def _moved_shapes(mesh, config, params, lora_params, remat, told):
    """Shapes that the devices exchange in a gradient step over 8 rows of 12 tokens."""
    tokens = jnp.zeros((8, 12), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(12)[None], (8, 12))
    attention = dense_attention(jnp.broadcast_to(jnp.tril(jnp.ones((12, 12), bool)), (8, 12, 12)))

    def loss(lora_params, params, tokens):
        hidden, _ = forward(
            config,
            params,
            lora_params,
            tokens,
            positions,
            attention,
            lora_scale=1.0,
            remat=remat,
            mesh=mesh if told else None,
        )
        return jnp.sum(hidden**2)

    lora_params = _place(mesh, lora_params, lora_axes(lora_params))
    params = _place(mesh, params, param_axes(config))
    tokens = _place(mesh, tokens, ("batch", None))
    text = jax.jit(jax.grad(loss)).lower(lora_params, params, tokens).compile().as_text()
    found = re.findall(r"= f32\[([\d,]+)\]\S* (?:all-gather|all-reduce|all-to-all)\(", text)
    assert found, "no collective: the pattern is out of date"
    return {tuple(map(int, shape.split(","))) for shape in found}


@pytest.mark.parametrize("remat", ["none", "layer"])
def test_weights_travel_and_activations_stay(remat, devices, config, params, lora_params):
    """Under fsdp: of the rows, only the embeddings change hands, an eighth of them a device."""
    mesh = make_mesh(MeshConfig(1, 8, 1), devices)
    moved = _moved_shapes(mesh, config, params, lora_params, remat, told=True)
    rows = {shape for shape in moved if 8 * 12 in shape or {8, 12} <= set(shape)}
    assert rows <= {(8, 1, 12, 4)}
    # No stack of layers is gathered, nor are gathered layers kept.
    assert not any(shape[0] == config.num_layers and len(shape) == 3 for shape in moved)


def test_left_to_xla_activations_travel(devices, config, params, lora_params):
    """Why `forward` is told the mesh."""
    mesh = make_mesh(MeshConfig(1, 8, 1), devices)
    moved = _moved_shapes(mesh, config, params, lora_params, "layer", told=False)
    assert any(8 * 12 in shape or {8, 12} <= set(shape) for shape in moved - {(8, 1, 12, 4)}), moved
