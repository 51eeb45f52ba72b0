"""Every weight in its place on every mesh, what is read for it, and what is refused by name."""

import json
import os
import runpy
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from dart_jax.model.architecture import to_hf_config
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes, param_shapes
from dart_jax.model.load import open_checkpoint
from dart_jax.model.placing import Leaf, layer_writer
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.weights import LAYER_NAMES, TOP_NAMES, BadCheckpoint, load_params
from tests.compiling import quickly_on

INDEX = "model.safetensors.index.json"
Q0 = "model.layers.0.self_attn.q_proj.weight"
SCRIPT = Path(__file__).with_name("recorded_load.py")
Recorded = runpy.run_path(str(SCRIPT))["Recorded"]
MESHES = [MeshConfig(1, 8, 1), MeshConfig(2, 2, 2), MeshConfig(1, 1, 8), MeshConfig(8, 1, 1)]


@pytest.fixture(scope="module")
def tensors(config, params):
    """The session's random weights under their Hugging Face names, [out, in]."""
    named = {
        TOP_NAMES["embed"]: np.asarray(params["embed"]),
        TOP_NAMES["final_norm"]: np.asarray(params["final_norm"]),
        TOP_NAMES["head"]: np.asarray(params["head"]).T,
    }
    for key, weights in params["layers"].items():
        for layer, weight in enumerate(np.asarray(weights)):
            named[f"model.layers.{layer}.{LAYER_NAMES[key]}"] = weight.T
    return {name: np.ascontiguousarray(tensor) for name, tensor in named.items()}


@pytest.fixture
def write(tmp_path, config):
    """A function: a checkpoint folder from one dict of tensors per file."""

    def run(*files, index=None, **changes):
        raw = to_hf_config(config) | changes
        (tmp_path / "config.json").write_text(json.dumps(raw))
        for number, tensors in enumerate(files):
            save_file(tensors, tmp_path / f"{number}.safetensors")
        if index is not None:
            (tmp_path / INDEX).write_text(json.dumps({"weight_map": index}))
        return tmp_path

    return run


def load(folder):
    config, source = open_checkpoint(folder)
    return load_params(config, source, jnp.float32)


def test_every_weight_comes_back(write, tensors, params):
    jax.tree.map(np.testing.assert_array_equal, load(write(tensors)), params)


def test_bfloat16_and_norms(write, tensors, params):
    """bfloat16 files load; matrices take the asked type, norms stay float32."""
    half = {name: np.asarray(jnp.asarray(t, jnp.bfloat16)) for name, t in tensors.items()}
    config, source = open_checkpoint(write(half))
    found = load_params(config, source, jnp.bfloat16)
    assert found["layers"]["q"].dtype == found["embed"].dtype == jnp.bfloat16
    assert found["layers"]["attn_norm"].dtype == found["final_norm"].dtype == jnp.float32
    np.testing.assert_array_equal(found["embed"], params["embed"].astype(jnp.bfloat16))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite(bad, dtype, write, tensors):
    stored = {name: np.asarray(jnp.asarray(t, dtype)) for name, t in tensors.items()}
    stored[Q0] = stored[Q0].copy()
    stored[Q0][3, 5] = bad
    with pytest.raises(BadCheckpoint, match=rf"{Q0} has numbers that are not finite"):
        load(write(stored))


def shardings_of(config, mesh_config):
    mesh = make_mesh(mesh_config, jax.devices()[:8])
    return tree_shardings(mesh, param_axes(config), param_shapes(config))


def test_placed_on_a_mesh(write, tensors, params):
    config, source = open_checkpoint(write(tensors))
    shardings = shardings_of(config, MeshConfig(1, 4, 2))
    found = load_params(config, source, jnp.float32, shardings)
    assert found["layers"]["q"].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    assert jax.tree.map(lambda leaf: leaf.sharding, found) == shardings
    jax.tree.map(np.testing.assert_array_equal, found, params)


@pytest.mark.parametrize("mesh_config", MESHES, ids=str)
def test_read_once_and_one_at_a_time(mesh_config, write, tensors, params):
    """Whatever the mesh: every byte once, copies too, and one tensor open."""
    config, source = open_checkpoint(write(tensors))
    recorded = Recorded(source)
    shardings = shardings_of(config, mesh_config)
    found = load_params(config, recorded.source, jnp.float32, shardings)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert recorded.bytes == {name: tensor.nbytes for name, tensor in tensors.items()}
    assert recorded.most_open == 1


def test_two_processes_read_their_own_slices(write, tensors):
    """Each reads half of what is split; what every device holds whole, both read."""
    folder = write(tensors)
    # Of the vocabulary, 8 devices cannot hold an eighth each.
    held_whole = {name for name in tensors if "norm" in name} | {"lm_head.weight"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = str(Path(__file__).parents[2])
    running = [
        subprocess.Popen(
            [sys.executable, SCRIPT, folder, port, str(index)],
            env=os.environ | {"XLA_FLAGS": quickly_on(4), "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    for output in outputs:
        found = json.loads(output.splitlines()[-1])
        assert found["most_open"] == 1
        assert found["bytes"] == {
            name: tensor.nbytes // (1 if name in held_whole else 2)
            for name, tensor in tensors.items()
        }


def test_a_layer_is_written_in_place():
    """Beside the donated stack, a device needs one layer's shard at most."""
    mesh = make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8])
    sharding = NamedSharding(mesh, PartitionSpec("fsdp", None))
    leaf = Leaf(None, 16, True, jnp.dtype(jnp.bfloat16), sharding, None)
    stored = jax.ShapeDtypeStruct((96, 64), jnp.float32, sharding=leaf.stored_sharding)
    shape = jax.ShapeDtypeStruct((16, 64, 96), jnp.bfloat16)
    stack = jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=leaf.shardings(shape))
    program = layer_writer(leaf, jax.ShapeDtypeStruct(stored.shape, stored.dtype))
    memory = program.lower(stack, stored, np.int32(0)).compile().memory_analysis()
    shard_bytes = 64 * 96 * 2 // 8
    assert memory.alias_size_in_bytes == memory.output_size_in_bytes == 16 * shard_bytes
    assert memory.temp_size_in_bytes <= shard_bytes


def _codes(name, weight):
    """A stand-in for quantisation: 4-bit codes and a scale for each 8 rows."""
    if name in ("embed", "attn_norm", "ffn_norm", "final_norm"):
        return weight
    assert name in ("q", "k", "v", "o", "gate", "up", "down", "head")
    scale = jnp.abs(weight).reshape(-1, 8, weight.shape[1]).max(1) / 7
    codes = jnp.round(weight / jnp.repeat(scale, 8, axis=0))
    return {"codes": codes.astype(jnp.int4), "scale": scale}


def test_transform_before_stacking(write, tensors, params):
    """The same as of the finished weights; arrays are sharded where the mesh divides them."""
    config, source = open_checkpoint(write(tensors))
    shardings = shardings_of(config, MeshConfig(1, 8, 1))
    found = load_params(config, source, jnp.float32, shardings, _codes)

    @jax.jit
    def expected(params):
        tops = {name: _codes(name, params[name]) for name in ("embed", "final_norm", "head")}
        layers = params["layers"].items()
        return tops | {"layers": {name: jax.vmap(partial(_codes, name))(w) for name, w in layers}}

    jax.tree.map(np.testing.assert_array_equal, found, expected(params))
    q = found["layers"]["q"]
    assert q["codes"].sharding.spec == PartitionSpec(None, "fsdp", None)
    # 32 rows have 4 scales, which 8 devices cannot share out.
    assert q["scale"].sharding.spec == PartitionSpec(None, None, None)


def test_progress_of_large_checkpoints(write, tensors, monkeypatch, capsys):
    folder = write(tensors)
    load(folder)
    assert "weights" not in capsys.readouterr().err
    monkeypatch.setattr("dart_jax.model.weights._SHOWN_FROM", 1000)
    load(folder)
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1024
    assert f"100%|██████████| {size:.0f}k/{size:.0f}k" in capsys.readouterr().err


def test_missing(write, tensors):
    rest = {name: tensor for name, tensor in tensors.items() if name != Q0}
    with pytest.raises(BadCheckpoint, match=f"missing {Q0}"):
        load(write(rest))


def test_unknown(write, tensors):
    bias = {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)}
    with pytest.raises(BadCheckpoint, match=r"unknown model.layers.0.self_attn.q_proj.bias"):
        load(write(tensors | bias))


def test_rotary_buffer_of_old_checkpoints_is_fine(write, tensors, params):
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32)}
    jax.tree.map(np.testing.assert_array_equal, load(write(tensors | buffer)), params)


def test_in_two_files(write, tensors):
    with pytest.raises(BadCheckpoint, match=f"{Q0} is in both 0.safetensors and 1.safetensors"):
        load(write(tensors, {Q0: tensors[Q0]}))


@pytest.mark.parametrize("name", [Q0, "model.norm.weight", "lm_head.weight"])
def test_misshaped(name, write, tensors):
    """Found in the headers: nothing is read."""
    config, source = open_checkpoint(write(tensors | {name: tensors[name][:-2].copy()}))
    recorded = Recorded(source)
    with pytest.raises(BadCheckpoint, match=f"{name} is "):
        load_params(config, recorded.source, jnp.float32)
    assert recorded.most_open == 0


def test_not_of_floating_point(write, tensors):
    quantised = tensors | {Q0: tensors[Q0].astype(np.int8)}
    with pytest.raises(BadCheckpoint, match=rf"0.safetensors: {Q0} is stored as I8"):
        load(write(quantised))


def _split(tensors):
    """One file with layer 0's queries, one with the rest, and the index that says so."""
    rest = {name: tensor for name, tensor in tensors.items() if name != Q0}
    return rest, {Q0: tensors[Q0]}, dict.fromkeys(rest, "0.safetensors") | {Q0: "1.safetensors"}


def test_index_that_agrees(write, tensors, params):
    rest, queries, index = _split(tensors)
    found = load(write(rest, queries, index=index))
    jax.tree.map(np.testing.assert_array_equal, found, params)


@pytest.mark.parametrize("wrong", ["ghost", "unlisted", "elsewhere"])
def test_index_that_disagrees(wrong, write, tensors):
    rest, queries, index = _split(tensors)
    index = {
        "ghost": index | {"ghost": "0.safetensors"},
        "unlisted": {name: file for name, file in index.items() if name != "model.norm.weight"},
        "elsewhere": index | {"model.norm.weight": "1.safetensors"},
    }[wrong]
    name = "ghost" if wrong == "ghost" else "model.norm.weight"
    with pytest.raises(BadCheckpoint, match=f"disagree on {name}"):
        load(write(rest, queries, index=index))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "no index"),
        ("[]", "no index"),
        ('{"weight_map": {"a": "0", "a": "1"}}', "the key 'a' is given twice"),
    ],
)
def test_index_that_is_none(text, message, write, tensors):
    folder = write(tensors)
    (folder / INDEX).write_text(text)
    with pytest.raises(BadCheckpoint, match=rf"{INDEX}: {message}"):
        load(folder)


def test_index_names_an_absent_file(write, tensors):
    rest, _, index = _split(tensors)
    with pytest.raises(FileNotFoundError, match=r"names 1.safetensors"):
        load(write(rest, index=index))


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_truncated(kept, write, tensors):
    folder = write(tensors)
    file = folder / "0.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BadCheckpoint, match=r"0.safetensors: not a readable safetensors"):
        load(folder)


def test_no_tensors(write):
    with pytest.raises(BadCheckpoint, match=r"no \*.safetensors"):
        load(write())


def test_tied_head(write, tensors, params):
    """A copy of the embedding is superfluous; another head contradicts the configuration."""
    copy = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    found = load(write(copy, tie_word_embeddings=True))
    assert "head" not in found
    np.testing.assert_array_equal(found["embed"], params["embed"])
    with pytest.raises(BadCheckpoint, match=r"lm_head.weight differs"):
        load(write(tensors, tie_word_embeddings=True))


def test_tied_head_is_compared_in_blocks(write, tensors, monkeypatch):
    """A difference in the last row is found whatever the block."""
    monkeypatch.setattr("dart_jax.model.weights._COMPARED_AT_ONCE", 4 * 32 * 10)
    head = tensors["model.embed_tokens.weight"].copy()
    load(write(tensors | {"lm_head.weight": head}, tie_word_embeddings=True))
    head[-1, -1] += 1
    with pytest.raises(BadCheckpoint, match=r"lm_head.weight differs"):
        load(write(tensors | {"lm_head.weight": head}, tie_word_embeddings=True))


def test_untied_without_head(write, tensors):
    rest = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    with pytest.raises(BadCheckpoint, match=r"missing lm_head.weight"):
        load(write(rest))


def test_layers_beyond_the_configuration(write, tensors):
    with pytest.raises(
        BadCheckpoint, match=r"unknown model.layers.2.input_layernorm.weight, .*\.\.\."
    ):
        load(write(tensors, num_hidden_layers=2))


def test_what_was_written_is_what_is_read(write, tensors):
    """The fixture itself: orientation [out, in] as in transformers."""
    stored = load_file(write(tensors) / "0.safetensors")
    assert stored["model.layers.0.self_attn.k_proj.weight"].shape == (16, 32)
