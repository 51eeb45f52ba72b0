"""config.json in its old and new forms, and what this decoder refuses."""

import json

import numpy as np
import pytest

from dart_jax.model.architecture import from_hf_config, to_hf_config
from dart_jax.model.rope import rope_frequencies

RAW = {
    "model_type": "llama",
    "vocab_size": 10,
    "num_hidden_layers": 1,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 8,
}
WIDE = RAW | {"hidden_size": 96}
DEFAULT = {"rope_type": "default", "rope_theta": 5e5}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_round_trip(shapes):
    for config in shapes.values():
        assert from_hf_config(to_hf_config(config), "config.json") == config


def test_old_and_new_form_of_the_rotary_settings():
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    old = from_hf_config(RAW | {"rope_theta": 5e5, "rope_scaling": scaling}, "config.json")
    new = from_hf_config(RAW | {"rope_parameters": scaling | {"rope_theta": 5e5}}, "config.json")
    assert old == new
    assert (old.rope_theta, old.rope_scaling.factor) == (5e5, 32.0)


def test_defaults_of_old_files():
    """head_dim is D / N, every query head has its own kv head, the head is not tied."""
    config = from_hf_config(RAW, "config.json")
    assert (config.head_dim, config.num_kv_heads, config.rope_theta) == (4, 3, 10000.0)
    assert not config.tied_head and config.rope_scaling is None


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": DEFAULT, "rope_scaling": LLAMA3},
        {"rope_parameters": DEFAULT, "rope_scaling": LLAMA3, "rope_theta": 3e5},
        {"rope_parameters": DEFAULT, "rope_scaling": LLAMA3 | {"rope_theta": 2e5}},
        {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}, "rope_scaling": DEFAULT},
        {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}, "rope_scaling": None, "rope_theta": 7.0},
        {
            "rope_scaling": {"type": "llama3"}
            | {k: v for k, v in LLAMA3.items() if k != "rope_type"}
        },
        {"rope_scaling": LLAMA3, "original_max_position_embeddings": 32},
        {"rope_theta": 5e5},
        {},
    ],
)
def test_rotary_frequencies_are_those_of_transformers(change, tmp_path):
    """Whichever of the old and the new keys a file has, and whatever each of them says."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    (tmp_path / "config.json").write_text(json.dumps(WIDE | change))
    theirs = LlamaRotaryEmbedding(transformers.AutoConfig.from_pretrained(tmp_path))
    ours = rope_frequencies(from_hf_config(WIDE | change, "config.json"))
    np.testing.assert_allclose(ours, theirs.inv_freq.numpy(), rtol=1e-6)


def test_a_setting_that_is_off_is_no_obstacle():
    off = {"sliding_window": None, "logits_scaling": 1.0, "num_experts": None, "mlp_bias": False}
    assert from_hf_config(RAW | off, "") == from_hf_config(RAW, "")
    unused = {"sliding_window": 64, "use_sliding_window": False}
    assert from_hf_config(RAW | unused, "") == from_hf_config(RAW, "")
    assert from_hf_config(RAW | {"sliding_window": 2048}, "") == from_hf_config(RAW, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"logits_scaling": 8.0}, "logits_scaling is 8.0"),
        ({"attention_multiplier": 0.1}, "attention_multiplier is 0.1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"num_local_experts": 8}, "num_local_experts is 8"),
        ({"sliding_window": 64}, "sliding_window is 64"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config: quantised"),
        ({"rope_scaling": {"factor": 8.0}}, "rotary settings: factor would have no effect"),
        ({"rope_parameters": {"full_attention": DEFAULT}}, "rotary settings: full_attention"),
        ({"rope_scaling": LLAMA3 | {"partial_rotary_factor": 0.5}}, "rotary settings: partial_"),
        (
            {"rope_scaling": LLAMA3, "original_max_position_embeddings": 64},
            "original_max_position_embeddings is 64, and 32",
        ),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor, high"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=f"some/config.json: {message}"):
        from_hf_config(RAW | change, "some/config.json")


@pytest.mark.parametrize("key", ["vocab_size", "num_attention_heads", "hidden_size"])
def test_missing_key_is_named(key):
    raw = {name: value for name, value in RAW.items() if name != key}
    with pytest.raises(ValueError, match=f"some/config.json: {key} missing"):
        from_hf_config(raw, "some/config.json")
