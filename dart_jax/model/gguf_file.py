"""GGUF checkpoints: architecture from the metadata, tensors dequantised by the `gguf` library."""

from __future__ import annotations

import dataclasses
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from dart_jax.model.architecture import LlamaConfig, RopeScaling
from dart_jax.model.rope import rope_frequencies
from dart_jax.model.weights import BadCheckpoint, TensorInfo, TensorSource

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROWS_AT_ONCE = 1024
# GGUF keeps Llama 3.1's rescaling as a tensor of divisors instead of its four parameters.
_KNOWN_SCALINGS = tuple(RopeScaling(factor, 1.0, 4.0, 8192) for factor in (8.0, 32.0))


def open_gguf(path: Path) -> tuple[LlamaConfig, TensorSource]:
    """Architecture and tensors of a GGUF file.

    Raises:
        BadCheckpoint: Not GGUF, not Llama, or a tensor that this decoder does not know.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise BadCheckpoint(f"{path}: not a readable GGUF file ({error})") from error
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(reader, tensors, path)
    homes = {_hf_name(name, path): name for name in tensors if name != "rope_freqs.weight"}

    def open_tensor(hf_name: str) -> np.ndarray:
        tensor = tensors[homes[hf_name]]
        array = _dequantized(tensor)
        # Its pages of the file are not needed in this process's memory any more.
        reader.data.base.madvise(mmap.MADV_DONTNEED)
        if ".attn_q." in tensor.name:
            return _unpermute(array, config.num_heads)
        if ".attn_k." in tensor.name:
            return _unpermute(array, config.num_kv_heads)
        return array

    infos = {name: _info(tensors[home]) for name, home in homes.items()}
    return config, TensorSource(str(path), infos, open_tensor)


def _info(tensor: Any) -> TensorInfo:
    # The metadata have the fastest axis first.
    return TensorInfo(tuple(int(size) for size in reversed(tensor.shape)), int(tensor.n_bytes))


def _dequantized(tensor: Any) -> np.ndarray:
    """A tensor as float32, a block of rows at a time: the library needs twice what it returns."""
    import gguf

    # As a plain array: the library makes many small views, which are slow on a memmap.
    rows = np.asarray(tensor.data).reshape(-1, tensor.data.shape[-1])
    array = np.empty((len(rows), int(tensor.shape[0])), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        array[start : start + len(block)] = gguf.quants.dequantize(block, tensor.tensor_type)
    return array.reshape([int(size) for size in reversed(tensor.shape)])


def _config(reader: Any, tensors: dict[str, Any], path: Path) -> LlamaConfig:
    def field(key: str, default: Any = None) -> Any:
        found = reader.get_field(key)
        if found is None and default is None:
            raise BadCheckpoint(f"{path}: metadata key {key} is missing")
        return default if found is None else found.contents()

    architecture = field("general.architecture")
    if architecture != "llama":
        raise BadCheckpoint(f"{path}: architecture is {architecture!r}, not 'llama'")
    if "token_embd.weight" not in tensors:
        raise BadCheckpoint(f"{path}: missing token_embd.weight")
    # Llama 3.1's scaling is in rope_freqs.weight; what has a name here is another kind.
    scaling = field("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise BadCheckpoint(f"{path}: rope scaling {scaling!r} is not supported")
    heads, embed_dim = field("llama.attention.head_count"), field("llama.embedding_length")
    config = LlamaConfig(
        vocab_size=int(tensors["token_embd.weight"].shape[1]),
        num_layers=field("llama.block_count"),
        embed_dim=embed_dim,
        num_heads=heads,
        num_kv_heads=field("llama.attention.head_count_kv", heads),
        head_dim=field("llama.rope.dimension_count", embed_dim // heads),
        ffn_dim=field("llama.feed_forward_length"),
        rope_theta=float(field("llama.rope.freq_base", 10000.0)),
        rope_scaling=None,
        norm_eps=round(float(field("llama.attention.layer_norm_rms_epsilon")), 12),
        tied_head="output.weight" not in tensors,
        context_length=field("llama.context_length"),
    )
    if "rope_freqs.weight" in tensors:
        return _with_scaling(config, np.asarray(tensors["rope_freqs.weight"].data), path)
    return config


def _with_scaling(config: LlamaConfig, divisors: np.ndarray, path: Path) -> LlamaConfig:
    wanted = rope_frequencies(config) / divisors
    for scaling in _KNOWN_SCALINGS:
        scaled = dataclasses.replace(config, rope_scaling=scaling)
        if np.allclose(rope_frequencies(scaled), wanted, rtol=1e-4):
            return scaled
    raise BadCheckpoint(
        f"{path}: rope_freqs.weight is none of the known Llama-3.1/3.2 scalings; "
        "use the safetensors release, whose config.json states it"
    )


def _hf_name(name: str, path: Path) -> str:
    if name in _TOP:
        return _TOP[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.weight"
    raise BadCheckpoint(f"{path}: unknown tensor {name}")


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo GGUF's interleaving of rotary pairs: feature 2i, 2i+1 become i, i + H/2."""
    out, fan_in = weight.shape
    pairs = weight.reshape(heads, out // heads // 2, 2, fan_in)
    return pairs.swapaxes(1, 2).reshape(out, fan_in)
