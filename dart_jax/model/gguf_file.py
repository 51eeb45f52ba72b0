"""GGUF checkpoints: architecture from the metadata, tensors dequantised by the `gguf` library."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dart_jax.model.architecture import LlamaConfig, RopeScaling
from dart_jax.model.families import FAMILIES
from dart_jax.model.gguf_metadata import GgufFile, read_gguf
from dart_jax.model.llama import param_shapes
from dart_jax.model.rope import rope_frequencies
from dart_jax.model.weights import LAYER_NAMES, BadCheckpoint, TensorInfo, TensorSource

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
# Key in `LAYER_NAMES` of each tensor of a layer.
_LAYER = {
    "attn_norm.weight": "attn_norm",
    "attn_q.weight": "q",
    "attn_k.weight": "k",
    "attn_v.weight": "v",
    "attn_q.bias": "q_bias",
    "attn_k.bias": "k_bias",
    "attn_v.bias": "v_bias",
    "attn_q_norm.weight": "q_norm",
    "attn_k_norm.weight": "k_norm",
    "attn_output.weight": "o",
    "ffn_norm.weight": "ffn_norm",
    "ffn_gate.weight": "gate",
    "ffn_up.weight": "up",
    "ffn_down.weight": "down",
}
# A converter calls Mistral `llama`, too.
_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_ROWS_AT_ONCE = 1024

# Metadata keys, without the architecture in front, that are read, have no effect, or must have one
# value. Any other key is refused, because it may change the model.
_READ = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
}
_WITHOUT_EFFECT = {
    "attention.layer_norm_epsilon",  # for LayerNorm; these architectures have RMSNorm
    "expert_used_count",  # for experts; `expert_count` below must say that there are none
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",  # matters with a scaling's type or factor
    "tensor_data_layout",
    "vocab_size",  # taken from the embedding's rows instead
}
# Llama 3.1's scaling is in rope_freqs.weight; scalings with metadata keys are of other kinds.
_NEUTRAL = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "attention.scale": 0.0,
    "attention.sliding_window": 0,
    "attn_logit_softcapping": 0.0,
    "embedding_scale": 1.0,
    "expert_count": 0,
    "final_logit_softcapping": 0.0,
    "leading_dense_block_count": 0,
    "logit_scale": 1.0,
    "residual_scale": 1.0,
    "rope.scale_linear": 1.0,
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.factor": 1.0,
    "rope.scaling.type": "none",
    "use_parallel_residual": False,
}
# GGUF keeps Llama 3.1's rescaling as a tensor of divisors instead of its four parameters.
_KNOWN_SCALINGS = tuple(RopeScaling(factor, 1.0, 4.0, 8192) for factor in (8.0, 32.0))


def open_gguf(path: Path) -> tuple[LlamaConfig, TensorSource]:
    """Open a GGUF file: read its architecture, and serve its tensors.

    Raises:
        BadCheckpoint: Not a whole model in GGUF, another architecture, or a tensor or a metadata
            key that this decoder does not know; names it.
    """
    file = read_gguf(path)
    tensors = {tensor.name: tensor for tensor in file.reader.tensors}
    config = _config(file, tensors)
    # rope_freqs is no weight: `_config` has read the scaling from it.
    gguf_names = {
        _hf_name(name, config, path): name for name in tensors if name != "rope_freqs.weight"
    }
    interleaved = file.architecture == "llama"

    def open_tensor(hf_name: str) -> np.ndarray:
        tensor = tensors[gguf_names[hf_name]]
        array = _dequantized(tensor)
        # The pages of all tensors read so far would add up to the file's size.
        file.release()
        if interleaved and ".attn_q." in tensor.name:
            return _unpermute(array, config.num_heads)
        if interleaved and ".attn_k." in tensor.name:
            return _unpermute(array, config.num_kv_heads)
        return array

    infos = {hf_name: _info(tensors[name]) for hf_name, name in gguf_names.items()}
    return config, TensorSource(str(path), infos, open_tensor)


def _info(tensor: Any) -> TensorInfo:
    # GGUF states shapes with the fastest axis first.
    return TensorInfo(tuple(int(size) for size in reversed(tensor.shape)), int(tensor.n_bytes))


def _dequantized(tensor: Any) -> np.ndarray:
    """Dequantise a tensor to float32, a block of rows at a time.

    The library needs twice the memory of what it returns, so that blocks keep the peak low.
    """
    import gguf

    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    array = np.empty((len(rows), int(tensor.shape[0])), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        array[start : start + len(block)] = gguf.quants.dequantize(block, tensor.tensor_type)
    return array.reshape([int(size) for size in reversed(tensor.shape)])


def _config(file: GgufFile, tensors: dict[str, Any]) -> LlamaConfig:
    """Read the architecture from the metadata and the tensors' shapes."""
    if file.architecture not in _ARCHITECTURES:
        raise BadCheckpoint(
            f"{file.path}: architecture is {file.architecture!r}, which is not supported; give a "
            f"model of {', '.join(_ARCHITECTURES)}"
        )
    _refuse_beyond(file)
    if "token_embd.weight" not in tensors:
        raise BadCheckpoint(f"{file.path}: missing token_embd.weight")

    family = FAMILIES[file.architecture]
    heads = _count(file, "attention.head_count")
    embed_dim = _count(file, "embedding_length")
    config = LlamaConfig(
        vocab_size=int(tensors["token_embd.weight"].shape[1]),
        num_layers=_count(file, "block_count"),
        embed_dim=embed_dim,
        num_heads=heads,
        num_kv_heads=_count(file, "attention.head_count_kv", heads),
        head_dim=_head_dim(file, embed_dim // heads),
        ffn_dim=_count(file, "feed_forward_length"),
        rope_theta=float(file.get(file.key("rope.freq_base"), 10000.0)),
        rope_scaling=None,
        # The file has a float32, in which 1e-5 is 9.99999975e-6.
        norm_eps=round(float(file.require(file.key("attention.layer_norm_rms_epsilon"))), 12),
        tied_head="output.weight" not in tensors,
        context_length=_count(file, "context_length"),
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
    )

    if "rope_freqs.weight" in tensors:
        return _with_scaling(config, np.asarray(tensors["rope_freqs.weight"].data), file.path)
    return config


def _refuse_beyond(file: GgufFile) -> None:
    """Refuse metadata keys that are unknown, or whose value asks for an unsupported feature."""
    problems, of_the_model = [], file.key("")
    for key in file.reader.fields:
        name = key.removeprefix(of_the_model)
        if not key.startswith(of_the_model) or name in _READ or name in _WITHOUT_EFFECT:
            continue
        value = file.get(key)
        if name not in _NEUTRAL:
            problems.append(f"{key} ({value}) is unknown")
        elif value != _NEUTRAL[name]:
            problems.append(f"{key} is {value}")

    if problems:
        raise BadCheckpoint(
            f"{file.path}: {'; '.join(problems)}: not supported, and the model would be another "
            "without it; a plain model can be taken from its Hugging Face folder"
        )


def _count(file: GgufFile, name: str, default: int | None = None) -> int:
    """Read a size that all layers share; refuse a list with a size for each layer."""
    key = file.key(name)
    value = file.require(key) if default is None else file.get(key, default)
    if isinstance(value, list):
        raise BadCheckpoint(f"{file.path}: {key} differs between layers, which is not supported")
    return int(value)


def _head_dim(file: GgufFile, default: int) -> int:
    """Read a head's features; refuse a head that is rotated in part, or whose values differ."""
    head_dim = _count(file, "attention.key_length", default)
    for name in ("attention.value_length", "rope.dimension_count"):
        features = _count(file, name, head_dim)
        if features != head_dim:
            raise BadCheckpoint(
                f"{file.path}: {file.key(name)} is {features}, but a head has {head_dim} features "
                "(attention.key_length, or embedding_length / head_count); not supported"
            )
    return head_dim


def _with_scaling(config: LlamaConfig, divisors: np.ndarray, path: Path) -> LlamaConfig:
    """Find the known scaling that gives the file's divisors, and add it to the architecture."""
    plain = rope_frequencies(config)
    if divisors.shape != plain.shape:
        raise BadCheckpoint(
            f"{path}: rope_freqs.weight is {divisors.shape}, expected {plain.shape}: half of a "
            "head's features"
        )

    wanted = plain / divisors
    for scaling in _KNOWN_SCALINGS:
        scaled = dataclasses.replace(config, rope_scaling=scaling)
        if np.allclose(rope_frequencies(scaled), wanted, rtol=1e-4):
            return scaled
    raise BadCheckpoint(
        f"{path}: rope_freqs.weight is none of the known Llama-3.1/3.2 scalings; "
        "use the safetensors release, whose config.json states it"
    )


def _hf_name(name: str, config: LlamaConfig, path: Path) -> str:
    """Translate a tensor's GGUF name to its Hugging Face name."""
    if name in _TOP:
        return _TOP[name]
    block, _, rest = name.partition(".")
    layer, _, of_layer = rest.partition(".")
    key = _LAYER.get(of_layer)
    # A tensor of another family's layers is as unknown as one of none.
    if block == "blk" and key in param_shapes(config)["layers"]:
        return f"model.layers.{layer}.{LAYER_NAMES[key]}"
    raise BadCheckpoint(f"{path}: unknown tensor {name}")


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo a Llama's interleaving of rotary pairs: feature 2i, 2i+1 become i, i + H/2."""
    out, fan_in = weight.shape
    pairs = weight.reshape(heads, out // heads // 2, 2, fan_in)
    return pairs.swapaxes(1, 2).reshape(out, fan_in)
