"""Checkpoints that are not exactly the model's, each refused by name."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from dart_jax.model.architecture import to_hf_config
from dart_jax.model.config import MeshConfig
from dart_jax.model.llama import param_axes, param_shapes
from dart_jax.model.load import open_checkpoint
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.weights import LAYER_NAMES, TOP_NAMES, BadCheckpoint, load_params

INDEX = "model.safetensors.index.json"
Q0 = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def tensors(config, params):
    """The session's random weights under their Hugging Face names, [out, in]."""
    named = {
        TOP_NAMES["embed"]: np.asarray(params["embed"]),
        TOP_NAMES["final_norm"]: np.asarray(params["final_norm"]),
        TOP_NAMES["head"]: np.asarray(params["head"]).T,
    }
    for key, suffix in LAYER_NAMES.items():
        for layer in range(config.num_layers):
            named[f"model.layers.{layer}.{suffix}"] = np.asarray(params["layers"][key][layer]).T
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


def test_placed_on_a_mesh(write, tensors, params):
    config, source = open_checkpoint(write(tensors))
    mesh = make_mesh(MeshConfig(1, 4, 2), jax.devices()[:8])
    shardings = tree_shardings(mesh, param_axes(config), param_shapes(config))
    found = load_params(config, source, jnp.float32, shardings)
    assert found["layers"]["q"].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    jax.tree.map(np.testing.assert_array_equal, found, params)


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
    with pytest.raises(BadCheckpoint, match=f"{name} is "):
        load(write(tensors | {name: tensors[name][:-2].copy()}))


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
