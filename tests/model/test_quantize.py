"""The quantised base against the formats' own bounds and against its dense form."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from jax.sharding import PartitionSpec

from dart_jax.config import parse
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LORA_TARGETS, MeshConfig
from dart_jax.model.dense import frozen_matmul
from dart_jax.model.llama import forward, param_axes, param_shapes, unstack
from dart_jax.model.lora import init_lora, lora_axes, merge_lora
from dart_jax.model.placing import Leaf, arrive
from dart_jax.model.presets import PRESETS
from dart_jax.model.quantize import (
    NF4,
    TILE,
    dequantize,
    load_transform,
    quantize_matrix,
    quantize_params,
    stored_bytes,
)
from dart_jax.model.sharding import make_mesh, sharding_of, tree_shardings
from dart_jax.settings import BadSetting

QUANTIZED = ("int8", "nf4")

# Compiled as a whole: op by op, each test would take seconds.
to_stored = jax.jit(quantize_matrix, static_argnames="scheme")
to_dense = jax.jit(dequantize, static_argnames="dtype")


@pytest.fixture(scope="module")
def wide(config):
    """Two tiles of input features to most projections, and three (which 2 divides not) to one."""
    return dataclasses.replace(config, embed_dim=128, head_dim=32, ffn_dim=192, num_layers=2)


@pytest.fixture(scope="module")
def wide_params(wide, draw):
    return draw(param_shapes(wide))


@pytest.fixture(scope="module")
def draw():
    """A function: normal numbers of order 1/sqrt(in) in a tree of shapes."""

    def make(shapes):
        leaves, structure = jax.tree.flatten(shapes)
        rng = np.random.default_rng(0)
        drawn = [rng.normal(0, leaf.shape[-2:][0] ** -0.5, leaf.shape) for leaf in leaves]
        return structure.unflatten([jnp.asarray(leaf, jnp.float32) for leaf in drawn])

    return make


@pytest.fixture(scope="module")
def stored(wide_params):
    """A function: the weights in a scheme."""
    quantize = jax.jit(quantize_params, static_argnames="scheme")
    return cache(lambda scheme: quantize(wide_params, scheme=scheme))


def worst_case(scheme):
    """[64, 16]: one magnitude of 1 a column, and weights half-way between neighbouring codes."""
    if scheme == "int8":
        codes = np.arange(-127, 127).reshape(-1, 1) / 127.5
        middle = codes + 0.5 / 127.5
    else:
        middle = (np.asarray(NF4)[1:] + np.asarray(NF4)[:-1])[:, None] / 2
    column = np.resize(middle, (63, 16))
    return jnp.asarray(np.concatenate([np.ones((1, 16)), column]), jnp.float32)


@pytest.mark.parametrize("scheme", QUANTIZED)
def test_error_is_within_the_format_and_reaches_it(scheme):
    """int8: half a step of absmax / 127.5. nf4: half the widest gap, and the scale's 8 bits."""
    rng = np.random.default_rng(1)
    heavy = jnp.asarray(rng.standard_t(3, (3 * TILE, 40)), jnp.float32)
    steps = {"int8": 0.5 / 127.5, "nf4": np.diff(NF4).max() / 2}
    rounding = {"int8": 2.0**-22, "nf4": 2.0**-8}
    for weight in (heavy, worst_case(scheme), jnp.zeros((TILE, 2))):
        stored = to_stored(weight, scheme=scheme)
        tiles = stored.scale.shape[0]
        tiled = np.asarray(weight).reshape(tiles, -1, weight.shape[1])
        error = np.abs(np.asarray(to_dense(stored, dtype=jnp.float32)).reshape(tiled.shape) - tiled)
        largest = np.abs(tiled).max(axis=1, keepdims=True)
        assert np.all(error <= largest * (steps[scheme] + rounding[scheme]))
    worst = worst_case(scheme)
    reached = to_dense(to_stored(worst, scheme=scheme), dtype=jnp.float32)
    assert np.abs(reached - worst).max() > 0.99 * steps[scheme]


@pytest.mark.parametrize("scheme", QUANTIZED)
def test_dequantize_is_qwix_s(scheme):
    """Every code occurs; a stack of matrices is each of them by itself."""
    stack = jax.random.normal(jax.random.key(0), (3, 2 * TILE, 24))
    stored = to_stored(stack, scheme=scheme)
    assert len(np.unique(stored.qvalue)) == (16 if scheme == "nf4" else 255)
    found = to_dense(stored, dtype=jnp.float32)
    theirs = jax.jit(qwix.dequantize)(stored.astype(jnp.float32))
    np.testing.assert_array_equal(found, theirs)
    for layer, part in enumerate(unstack(stored)):
        alone = to_stored(stack[layer], scheme=scheme)
        jax.tree.map(np.testing.assert_array_equal, alone, part)
        np.testing.assert_array_equal(to_dense(alone, dtype=jnp.float32), found[layer])
    assert jax.eval_shape(to_dense, stored, dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_tiles_shrink_to_what_divides():
    for rows, tiles in ((48, 3), (32, 1), (128, 2)):
        shapes = jax.eval_shape(partial(quantize_matrix, scheme="nf4"), jnp.ones((rows, 4)))
        assert shapes.scale.shape == (tiles, 4)


def test_plain_weights_stay_as_they_are(wide_params):
    assert quantize_params(wide_params, "none") is wide_params
    weight = wide_params["layers"]["q"]
    assert dequantize(weight, jnp.bfloat16) is weight
    assert load_transform("none") is None


@pytest.mark.parametrize("scheme", ["int4", "NF4", "none"])
def test_unknown_scheme(scheme):
    with pytest.raises(ValueError, match=f"model.quantize: '{scheme}'; choose from none, int8"):
        quantize_matrix(jnp.ones((4, 4)), scheme)


def test_unknown_scheme_on_the_command_line():
    with pytest.raises(BadSetting, match=r"model\.quantize"):
        parse(["--model.quantize", "fp8"])
    assert parse(["--model.quantize", "nf4"])[0].model.quantize == "nf4"


@pytest.mark.parametrize("scheme", QUANTIZED)
def test_gradient_of_the_input_is_the_dense_one(scheme):
    x = jax.random.normal(jax.random.key(1), (5, TILE))
    stored = to_stored(jax.random.normal(jax.random.key(0), (TILE, 24)), scheme=scheme)
    dense = to_dense(stored, dtype=jnp.float32)
    grad = jax.random.normal(jax.random.key(2), (5, 24))

    @jax.jit
    def run(x, grad):
        out, back = jax.vjp(lambda x: frozen_matmul(x, stored, jnp.float32), x)
        return out, back(grad)[0]

    assert_close(run(x, grad), (x @ dense, grad @ dense.T))


@pytest.fixture(scope="module")
def tokens8(wide):
    """[8, 6]: a row for each of eight devices."""
    return jax.random.randint(jax.random.key(4), (8, 6), 0, wide.vocab_size)


@pytest.fixture(scope="module")
def run(wide, lora, adapters, tokens8):
    """A function: hidden states [8, 6, D] and adapter gradients of a random sum of them."""
    probe = jax.random.normal(jax.random.key(5), (8, 6, wide.embed_dim))

    @partial(jax.jit, static_argnums=(3, 4))
    def compiled(base, adapters, tokens, remat, mesh):
        def loss(adapters):
            hidden, _ = forward(
                wide, base, adapters, tokens, positions, attention,
                lora_scale=lora.scale, remat=remat, mesh=mesh,
            )  # fmt: skip
            return jnp.sum(hidden * probe), hidden

        positions, attention = whole_rows(tokens)
        (_, hidden), grads = jax.value_and_grad(loss, has_aux=True)(adapters)
        return hidden, grads

    def on(base, remat="none", mesh=None):
        arguments = (base, adapters, tokens8)
        if mesh is not None:
            axes = lora_axes(adapters)
            split = tree_shardings(mesh, axes, adapters), sharding_of(mesh, ("batch", None), (8, 6))
            arguments = (base, *jax.device_put(arguments[1:], split))
        return compiled(*arguments, remat, mesh)

    return on


@pytest.fixture(scope="module")
def adapters(wide, lora):
    """No B is zero."""
    draw = jax.jit(lambda key: jax.tree.map(lambda w: w + 0.01, init_lora(key, wide, lora)))
    return draw(jax.random.key(1))


@pytest.fixture(scope="module")
def on_dense_base(run, stored):
    """A function: what a scheme's dequantised weights give, as plain arrays on one device."""

    @jax.jit
    def densify(params):
        layers = {name: dequantize(w, jnp.float32) for name, w in params["layers"].items()}
        return {**params, "layers": layers}

    return cache(lambda scheme: run(densify(stored(scheme))))


def whole_rows(tokens):
    """Positions and attention of rows that are one segment each."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    return positions, dense_attention(segment_mask(positions, jnp.ones_like(tokens)))


def assert_close(found, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.parametrize(("scheme", "remat"), [("int8", "none"), ("nf4", "layer")])
def test_training_on_it_is_training_on_its_dense_form(scheme, remat, run, stored, on_dense_base):
    hidden, grads = run(stored(scheme), remat)
    assert all(np.abs(grad).max() > 1e-2 for grad in jax.tree.leaves(grads))
    assert_close((hidden, grads), on_dense_base(scheme))


@pytest.mark.parametrize(("scheme", "sizes"), [("int8", (1, 4, 2)), ("nf4", (2, 2, 2))])
def test_on_a_mesh(scheme, sizes, run, wide, stored, on_dense_base):
    """Two and three tiles: some scales are split, some stay whole while their matrix is split."""
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[:8])
    shardings = tree_shardings(mesh, param_axes(wide), stored(scheme))
    placed = jax.device_put(stored(scheme), shardings)
    specs = {name: (w.qvalue.sharding.spec, w.scale.sharding.spec)
             for name, w in placed["layers"].items() if name in LORA_TARGETS}  # fmt: skip
    assert specs["q"][0] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["down"][0] == PartitionSpec(None, "tensor", "fsdp")
    rows = "fsdp" if scheme == "nf4" else None
    assert specs["q"][1] == PartitionSpec(None, rows, "tensor")
    assert specs["down"][1] == PartitionSpec(None, None, "fsdp")
    assert_close(run(placed, mesh=mesh), on_dense_base(scheme))


def test_layers_come_apart_for_decoding(wide, stored, tokens8, adapters, lora, on_dense_base):
    """Cached on unstacked nf4 layers is uncached on the dense stack."""
    stacked = stored("nf4")
    apart = {**stacked, "layers": unstack(stacked["layers"])}

    @jax.jit
    def cached(base, adapters, tokens):
        positions, attention = whole_rows(tokens)
        hidden, _ = forward(
            wide,
            base,
            adapters,
            tokens,
            positions,
            lambda query, key, value, past: (attention(query, key, value), past),
            lora_scale=lora.scale,
            cache=(None,) * wide.num_layers,
        )
        return hidden

    assert_close(cached(apart, adapters, tokens8), on_dense_base("nf4")[0])


@pytest.mark.parametrize("scheme", QUANTIZED)
def test_quantised_as_it_arrives(scheme, wide, wide_params, stored):
    """The loader's stack, from files of [out, in], is that of `quantize_params`, sharded alike."""
    mesh = make_mesh(MeshConfig(1, 2, 4), jax.devices()[:8])
    weight = wide_params["layers"]["up"]
    expected = stored(scheme)["layers"]["up"]
    sharding = sharding_of(mesh, param_axes(wide)["layers"]["up"][1:], weight.shape[1:])
    leaf = Leaf("up", wide.num_layers, True, jnp.float32, sharding, load_transform(scheme))
    stack = None
    for layer, matrix in enumerate(np.asarray(weight)):
        stack = arrive(np.ascontiguousarray(matrix.T), matrix.T.shape, leaf, layer, stack)
    jax.tree.map(np.testing.assert_array_equal, stack, expected)
    planned = tree_shardings(mesh, param_axes(wide)["layers"]["up"], expected)
    for array, wanted in zip(jax.tree.leaves(stack), jax.tree.leaves(planned), strict=True):
        assert array.sharding.is_equivalent_to(wanted, array.ndim)


def test_merging_into_it_is_refused(stored, adapters, lora):
    with pytest.raises(ValueError, match=r"layers.\w+ is quantised.*model.quantize none"):
        merge_lora(stored("int8"), adapters, lora.scale)


def test_llama3_8b_fits_a_16_gb_chip():
    """Bytes from the formats: 1 + 4/in and 1/2 + 2/64 a projection weight, 2 everywhere else."""
    shapes = param_shapes(PRESETS["llama-3-8b"])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    projections = [shapes["layers"][name] for name in LORA_TARGETS]
    count = sum(leaf.size for leaf in projections)
    scales = sum(leaf.size // leaf.shape[1] for leaf in projections)
    rest = 2 * (sum(leaf.size for leaf in jax.tree.leaves(shapes)) - count)
    found = {
        scheme: stored_bytes(jax.eval_shape(partial(quantize_params, scheme=scheme), shapes))
        for scheme in ("none", *QUANTIZED)
    }
    assert found["none"] == rest + 2 * count
    assert found["int8"] == rest + count + 4 * scales
    assert found["nf4"] == rest + count // 2 + 2 * count // TILE
    gib = {scheme: round(size / 2**30, 2) for scheme, size in found.items()}
    assert gib == {"none": 14.96, "int8": 8.46, "nf4": 5.41}
