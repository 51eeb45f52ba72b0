"""What Qwen2, Qwen3 and Mistral add to the Llama skeleton, and what is refused by name."""

import dataclasses
import json
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from qwix import QArray

from dart_jax.model.architecture import from_hf_config, to_hf_config
from dart_jax.model.attention import dense_attention
from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.llama import forward, param_axes, param_shapes
from dart_jax.model.load import open_checkpoint, outline
from dart_jax.model.lora import lora_axes, merge_lora
from dart_jax.model.presets import PRESETS
from dart_jax.model.quantize import load_transform
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.weights import BadCheckpoint, load_params
from tests.tiny_model import random_params, write_model

# As the models' own files have them, without the keys that no reader needs.
QWEN2 = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3 = {
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MISTRAL = {
    "model_type": "mistral",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32768,
}
KINDS = {"layer_types": ["full_attention", "sliding_attention"]}


@pytest.mark.parametrize(
    ("raw", "name"), [(QWEN2, "qwen2.5-0.5b"), (QWEN3, "qwen3-0.6b"), (MISTRAL, "mistral-7b")]
)
def test_a_published_configuration_is_its_preset(raw, name):
    assert from_hf_config(raw, "config.json") == PRESETS[name]
    full = {"layer_types": ["full_attention"] * raw["num_hidden_layers"]}
    assert from_hf_config(raw | full, "config.json") == PRESETS[name]


@pytest.mark.parametrize(
    ("raw", "change", "window"),
    [
        (MISTRAL, {"sliding_window": 4096}, 4096),
        (MISTRAL, {"sliding_window": 65536}, 65536),
        (QWEN2, {"use_sliding_window": True, "sliding_window": 8192}, 8192),
        (QWEN3, {"use_sliding_window": True, "sliding_window": 8192} | KINDS, 8192),
    ],
)
def test_the_context_is_within_the_window(raw, change, window):
    config = from_hf_config(raw | change, "config.json")
    assert config.sliding_window == window
    assert config.context_length == min(window, raw["max_position_embeddings"])


def test_a_mistral_without_the_key_has_the_window_that_transformers_gives_it():
    transformers = pytest.importorskip("transformers")
    raw = {key: value for key, value in MISTRAL.items() if key != "sliding_window"}
    theirs = transformers.AutoConfig.for_model(**raw)
    assert from_hf_config(raw, "config.json").sliding_window == theirs.sliding_window == 4096


@pytest.mark.parametrize(
    ("raw", "change", "message"),
    [
        (MISTRAL, {"model_type": "mixtral"}, r"model_type is 'mixtral', .*a mixture of experts"),
        (QWEN3, {"model_type": "qwen3_moe"}, r"'qwen3_moe', .*a mixture of experts"),
        (QWEN3, {"model_type": "gemma2"}, r"'gemma2', .*norms that scale by 1 \+ weight"),
        (QWEN3, {"model_type": "mamba"}, r"'mamba', which is not supported; give .* qwen2, qwen3"),
        (QWEN3, {"model_type": None}, r"model_type is None"),
        (QWEN3, {"attention_bias": True}, r"attention_bias is True"),
        (QWEN3, {"head_dim": None}, r"head_dim missing"),
        (QWEN2, {"num_key_value_heads": None}, r"num_key_value_heads missing"),
        (QWEN2, KINDS, r"layer_types has sliding_attention, which is not supported"),
        (QWEN2, {"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"rope_type 'yarn'"),
    ],
)
def test_refused(raw, change, message):
    with pytest.raises(ValueError, match=rf"^some/config.json: .*{message}"):
        from_hf_config(raw | change, "some/config.json")


def test_no_family_has_everything(every):
    with pytest.raises(ValueError, match="no family of transformers"):
        to_hf_config(every)


def test_attention_is_that_of_a_window_up_to_its_width(
    shapes, hf_model, hf_logits, logits, tmp_path
):
    """The token behind the width is the first whose logits are others than the twin's."""
    config = dataclasses.replace(shapes["mistral"], sliding_window=40, context_length=40)
    twin = hf_model(config)
    twin.save_pretrained(tmp_path)
    found, source = open_checkpoint(tmp_path)
    assert found == config
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, 60))
    ours = logits(found, load_params(found, source, jnp.float32), tokens)
    error = np.abs(ours - hf_logits(twin, tokens)).max(-1)[0]
    assert error[:40].max() < 1e-4 < error[40]


def test_a_context_beyond_the_window_is_refused(tmp_path):
    pytest.importorskip("torch")
    write_model(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(raw | {"model_type": "mistral", "sliding_window": 64})
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    assert outline(ModelConfig(path=str(tmp_path)), mesh)[0].config.context_length == 64
    shorter = ModelConfig(path=str(tmp_path), context_length=48)
    assert outline(shorter, mesh)[0].config.context_length == 48
    with pytest.raises(ValueError, match=r"model.context_length: 65; .* slides beyond 64 tokens"):
        outline(ModelConfig(path=str(tmp_path), context_length=65), mesh)


@pytest.fixture(scope="module")
def params(every):
    return random_params(every)


@pytest.fixture(scope="module")
def base_logits(every, params, tokens, logits):
    return logits(every, params, tokens)


@pytest.mark.parametrize("key", ["q_bias", "k_bias", "v_bias", "q_norm", "k_norm"])
def test_each_addition_acts(key, every, params, tokens, logits, base_logits):
    neutral = jnp.ones if key.endswith("norm") else jnp.zeros
    layers = params["layers"] | {key: neutral(params["layers"][key].shape)}
    without = logits(every, params | {"layers": layers}, tokens)
    assert np.abs(without - base_logits).max() > 1e-2


def test_merged_is_unmerged(every, params, tokens, lora, lora_params, logits, base_logits):
    adapted = logits(every, params, tokens, lora_params, lora.scale)
    assert np.abs(adapted - base_logits).max() > 0.1
    merged = merge_lora(params, lora_params, lora.scale)
    np.testing.assert_allclose(logits(every, merged, tokens), adapted, atol=5e-5)
    np.testing.assert_array_equal(logits(every, params, tokens, lora_params, 0.0), base_logits)


def test_eight_devices_are_one(every, params, lora, lora_params, logits):
    """Biases are split as their projections' outputs are, norms of a head are whole."""
    tokens = jax.random.randint(jax.random.key(4), (8, 12), 0, every.vocab_size)
    expected = logits(every, params, tokens, lora_params, lora.scale)
    mesh = make_mesh(MeshConfig(1, 4, 2), jax.devices()[:8])
    shardings = tree_shardings(mesh, param_axes(every), params)
    assert shardings["layers"]["q_bias"].spec == PartitionSpec(None, "tensor")
    assert shardings["layers"]["k_norm"].spec == PartitionSpec(None, None)
    adapter = jax.device_put(lora_params, tree_shardings(mesh, lora_axes(lora_params), lora_params))
    found = logits(every, jax.device_put(params, shardings), tokens, adapter, lora.scale)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_vectors_are_neither_rounded_nor_quantised(shapes, hf_model, tmp_path):
    """Bfloat16 and nf4: biases stay the file's float32, and a missing one is named."""
    hf_model(shapes["qwen2"]).save_pretrained(tmp_path)
    config, source = open_checkpoint(tmp_path)
    layers = load_params(config, source, jnp.bfloat16, transform=load_transform("nf4"))["layers"]
    assert isinstance(layers["k"], QArray)
    name = "model.layers.1.self_attn.k_proj.bias"
    np.testing.assert_array_equal(layers["k_bias"][1], source.open(name)[:])
    source.tensors.pop(name)
    with pytest.raises(BadCheckpoint, match=f"missing {name}"):
        load_params(config, source, jnp.bfloat16)


def test_what_a_family_adds_is_all_that_it_adds(config):
    """Three sums for the biases, two norms; a Llama's program has none of them."""

    def operations(config):
        tokens = jax.ShapeDtypeStruct((1, 5), jnp.int32)
        mask = jax.ShapeDtypeStruct((1, 5, 5), jnp.bool_)

        def run(params, tokens, mask):
            attention = dense_attention(mask)
            return forward(config, params, {}, tokens, tokens, attention, lora_scale=0.0)[0]

        program = str(jax.make_jaxpr(run)(param_shapes(config), tokens, mask))
        return Counter(re.findall(r" = ([a-z_]+)", program))

    llama = operations(config)
    assert llama["rsqrt"] == 3, "two of a layer, and the last"
    biased = operations(dataclasses.replace(config, qkv_bias=True))
    assert (biased - llama)["add"] == 3 and biased["rsqrt"] == 3
    normed = operations(dataclasses.replace(config, qk_norm=True))
    assert normed["rsqrt"] == 5 and not (llama - normed)
