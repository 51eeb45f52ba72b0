"""GGUF: a synthetic file of known weights, broken files, and the embedded SmolLM2."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.architecture import RopeScaling
from dart_jax.model.gguf_file import open_gguf
from dart_jax.model.load import open_checkpoint
from dart_jax.model.rope import rope_frequencies
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.model.weights import BadCheckpoint, load_params
from tests.tiny_model import random_params

gguf = pytest.importorskip("gguf")

NAMES = {
    "attn_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "q_bias": "attn_q",
    "k_bias": "attn_k",
    "v_bias": "attn_v",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "o": "attn_output",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def _interleave(weight, heads):
    """llama.cpp's row order: the pair (i, i + H/2) of each head becomes (2i, 2i + 1)."""
    half = weight.shape[0] // heads // 2
    order = [
        head * 2 * half + part * half + i
        for head in range(heads)
        for i in range(half)
        for part in (0, 1)
    ]
    return weight[order]


def named(config, params, interleaved=True):
    """Weights under their GGUF names, [out, in]; of a Llama, rotary pairs lie side by side."""
    found = {
        "token_embd.weight": params["embed"],
        "output_norm.weight": params["final_norm"],
        "output.weight": params["head"].T,
    }
    heads = {"q": config.num_heads, "k": config.num_kv_heads} if interleaved else {}
    for key, weights in params["layers"].items():
        kind = "bias" if key.endswith("bias") else "weight"
        for layer, weight in enumerate(np.asarray(weights)):
            stored = _interleave(weight.T, heads[key]) if key in heads else weight.T
            found[f"blk.{layer}.{NAMES[key]}.{kind}"] = stored
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in found.items()}


@pytest.fixture
def tensors(config, params):
    return named(config, params)


@pytest.fixture
def write(tmp_path):
    """A function: a GGUF file of a configuration's metadata and the given tensors.

    Further metadata as name=(type, value).
    """

    def run(config, tensors, architecture="llama", kv_heads=None, **extra):
        path = tmp_path / "model.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_context_length(config.context_length)
        writer.add_embedding_length(config.embed_dim)
        writer.add_block_count(config.num_layers)
        writer.add_feed_forward_length(config.ffn_dim)
        writer.add_head_count(config.num_heads)
        writer.add_head_count_kv(kv_heads or config.num_kv_heads)
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_rope_dimension_count(config.head_dim)
        for name, (add, value) in extra.items():
            getattr(writer, f"add_{add}")(name, value)
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return run


def test_same_weights(config, params, tensors, write):
    found, source = open_checkpoint(write(config, tensors))
    assert found == config
    jax.tree.map(np.testing.assert_array_equal, load_params(found, source, jnp.float32), params)


@pytest.mark.parametrize(
    ("architecture", "added"), [("qwen2", {"qkv_bias": True}), ("qwen3", {"qk_norm": True})]
)
def test_other_architectures(architecture, added, config, write):
    """Their files have the rotary pairs of a head half a head apart, as we do."""
    other = dataclasses.replace(config, **added)
    params = random_params(other)
    tensors = named(other, params, interleaved=False)
    found, source = open_checkpoint(write(other, tensors, architecture=architecture))
    assert found == other
    jax.tree.map(np.testing.assert_array_equal, load_params(found, source, jnp.float32), params)
    with pytest.raises(BadCheckpoint, match=rf"{architecture}.what_comes_next \(1\) is unknown"):
        key = f"{architecture}.what_comes_next"
        open_gguf(write(other, tensors, architecture=architecture, **{key: ("uint32", 1)}))


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama31_scaling_from_the_divisors(factor, config, tensors, write):
    """The file has no factor, only each frequency's divisor."""
    plain = dataclasses.replace(config, rope_theta=5e5)
    scaled = dataclasses.replace(plain, rope_scaling=RopeScaling(factor, 1.0, 4.0, 8192))
    divisors = rope_frequencies(plain) / rope_frequencies(scaled)
    path = write(plain, tensors | {"rope_freqs.weight": divisors.astype(np.float32)})
    found, source = open_gguf(path)
    assert found == scaled
    assert "rope_freqs.weight" not in source.tensors


def test_tied_when_there_is_no_output(config, params, tensors, write):
    del tensors["output.weight"]
    found, source = open_gguf(write(config, tensors))
    assert found.tied_head
    np.testing.assert_array_equal(load_params(found, source, jnp.float32)["embed"], params["embed"])


def test_refused(config, tensors, write):
    odd = np.full(config.head_dim // 2, 3.0, np.float32)
    with pytest.raises(BadCheckpoint, match=r"rope_freqs.weight is none of the known"):
        open_gguf(write(config, tensors | {"rope_freqs.weight": odd}))
    with pytest.raises(BadCheckpoint, match=r"rope_freqs.weight is \(3,\), expected \(4,\)"):
        open_gguf(write(config, tensors | {"rope_freqs.weight": odd[1:]}))
    with pytest.raises(BadCheckpoint, match=r"unknown tensor blk.0.attn_q.bias"):
        open_gguf(write(config, tensors | {"blk.0.attn_q.bias": np.zeros(32, np.float32)}))
    with pytest.raises(BadCheckpoint, match=r"architecture is 'gemma2', .* llama, qwen2, qwen3"):
        open_gguf(write(config, tensors, architecture="gemma2"))


@pytest.mark.parametrize(
    ("key", "kind", "value", "message"),
    [
        ("llama.rope.scaling.type", "string", "linear", "is linear"),
        ("llama.rope.scaling.factor", "float32", 8.0, "is 8.0"),
        ("llama.rope.scale_linear", "float32", 4.0, "is 4.0"),
        ("llama.rope.scaling.attn_factor", "float32", 0.5, "is 0.5"),
        ("llama.logit_scale", "float32", 0.5, "is 0.5"),
        ("llama.residual_scale", "float32", 0.5, "is 0.5"),
        ("llama.embedding_scale", "float32", 12.0, "is 12.0"),
        ("llama.attention.scale", "float32", 0.5, "is 0.5"),
        ("llama.attention.sliding_window", "uint32", 64, "is 64"),
        ("llama.attention.causal", "bool", False, "is False"),
        ("llama.expert_count", "uint32", 8, "is 8"),
        ("llama.what_comes_next", "uint32", 1, r"\(1\) is unknown"),
        ("llama.attention.value_length", "uint32", 16, "is 16, but a head has 8 features"),
        ("split.count", "uint16", 3, "is 3.*one part of a model in 3 files.*gguf-split --merge"),
        ("split.tensors.count", "int32", 291, r"is 291, but the file has \d\d tensors"),
    ],
)
def test_metadata_that_would_make_it_another_model(
    key, kind, value, message, config, tensors, write
):
    with pytest.raises(BadCheckpoint, match=rf"model.gguf: .*{key} {message}"):
        open_gguf(write(config, tensors, **{key: (kind, value)}))


def test_metadata_that_change_nothing(config, tensors, write):
    neutral = {
        "llama.rope.scaling.type": ("string", "none"),
        "llama.rope.scaling.factor": ("float32", 1.0),
        "llama.rope.scale_linear": ("float32", 1.0),
        "llama.vocab_size": ("uint32", config.vocab_size),
        "llama.expert_count": ("uint32", 0),
        "llama.attention.key_length": ("uint32", config.head_dim),
        "llama.attention.value_length": ("uint32", config.head_dim),
        "split.count": ("uint16", 1),
        "split.tensors.count": ("int32", len(tensors)),
        "general.what_comes_next": ("uint32", 1),
    }
    assert open_gguf(write(config, tensors, **neutral))[0] == config


def test_part_of_the_rotary_features(config, tensors, write):
    """Heads wider than D / N need their own key; without it, the rotary dimensions are others."""
    wide = dataclasses.replace(config, head_dim=16)
    with pytest.raises(BadCheckpoint, match=r"rope.dimension_count is 16, but a head has 8"):
        open_gguf(write(wide, tensors))
    stated = {"llama.attention.key_length": ("uint32", 16)}
    assert open_gguf(write(wide, tensors, **stated))[0] == wide


def test_sizes_that_differ_between_layers(config, tensors, write):
    with pytest.raises(BadCheckpoint, match=r"head_count_kv differs between layers"):
        open_gguf(write(config, tensors, kv_heads=[2, 2, 4]))


def test_missing(config, tensors, write):
    rest = {name: tensor for name, tensor in tensors.items() if name != "blk.1.attn_v.weight"}
    found, source = open_gguf(write(config, rest))
    with pytest.raises(BadCheckpoint, match=r"missing model.layers.1.self_attn.v_proj.weight"):
        load_params(found, source, jnp.float32)
    del rest["token_embd.weight"]
    with pytest.raises(BadCheckpoint, match=r"missing token_embd.weight"):
        open_gguf(write(config, rest))


def test_misshaped(config, tensors, write):
    short = {"blk.0.ffn_up.weight": tensors["blk.0.ffn_up.weight"][:-1]}
    found, source = open_gguf(write(config, tensors | short))
    with pytest.raises(BadCheckpoint, match=r"model.layers.0.mlp.up_proj.weight is "):
        load_params(found, source, jnp.float32)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.5, 0.999])
def test_truncated(share, config, tensors, write):
    path = write(config, tensors)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadCheckpoint, match=r"model.gguf: not a readable GGUF"):
        open_gguf(path)


def test_not_gguf(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK" * 1000)
    with pytest.raises(BadCheckpoint, match="not a readable GGUF"):
        open_gguf(path)


@pytest.mark.slow
def test_smollm2_matches_transformers(smollm2_path, logits, hf_logits):
    """Float32 logits on a chat prompt, weights dequantised by each side.

    tests/sft/test_parity.py compares loss and gradients of the same weights.
    """
    pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(smollm2_path)
    tokens = [tokenizer.encode_prompt([{"role": "user", "content": "Are two and 2 the same?"}])]
    twin = AutoModelForCausalLM.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name, dtype="float32"
    )
    expected = hf_logits(twin.eval(), tokens)
    del twin
    config, source = open_checkpoint(smollm2_path)
    found = logits(config, load_params(config, source, jnp.float32), tokens)
    np.testing.assert_allclose(found, expected, atol=1e-3)
