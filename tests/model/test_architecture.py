"""config.json in its old and new forms, and what this decoder refuses."""

import pytest

from dart_jax.model.architecture import from_hf_config, to_hf_config

RAW = {
    "model_type": "llama",
    "vocab_size": 10,
    "num_hidden_layers": 1,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 8,
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
    ("change", "message"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"attention_bias": True}, "attention_bias is not supported"),
        ({"mlp_bias": True}, "mlp_bias is not supported"),
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
