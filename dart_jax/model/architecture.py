"""The hyperparameters that make a Llama-family decoder, read from where a checkpoint keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RopeScaling:
    """Frequency rescaling of Llama 3.1 and 3.2 (`rope_type: llama3`).

    Attributes:
        factor: Wavelengths far beyond the original context are stretched by it.
        low_freq_factor, high_freq_factor: Bounds, in turns over the original context, between
            which stretched and plain frequencies are blended.
        original_context_length: Context in tokens of the model before it was extended.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True)
class LlamaConfig:
    """Shapes and constants of one decoder; letters as in the code's shape comments."""

    vocab_size: int  # V
    num_layers: int  # L
    embed_dim: int  # D
    num_heads: int  # N
    num_kv_heads: int  # K
    head_dim: int  # H
    ffn_dim: int  # F
    rope_theta: float
    rope_scaling: RopeScaling | None
    norm_eps: float
    tied_head: bool
    context_length: int


_REQUIRED = (
    "vocab_size",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
)
_REQUIRED_SCALING = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


def from_hf_config(raw: dict[str, Any], where: str) -> LlamaConfig:
    """Read a Hugging Face `config.json` of `model_type: llama` (transformers 4 or 5).

    Raises:
        ValueError: Another architecture, a feature that this decoder lacks, or a missing key;
            names `where`.
    """
    if raw.get("model_type") != "llama":
        raise ValueError(f"{where}: model_type is {raw.get('model_type')!r}, not 'llama'")
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise ValueError(f"{where}: {key} is not supported")
    if raw.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{where}: hidden_act is {raw['hidden_act']!r}, not 'silu'")
    _require(raw, _REQUIRED, where)
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    heads = raw["num_attention_heads"]
    return LlamaConfig(
        vocab_size=raw["vocab_size"],
        num_layers=raw["num_hidden_layers"],
        embed_dim=raw["hidden_size"],
        num_heads=heads,
        num_kv_heads=raw.get("num_key_value_heads") or heads,
        head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
        ffn_dim=raw["intermediate_size"],
        rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0),
        rope_scaling=_rope_scaling(rope, where),
        norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        tied_head=bool(raw.get("tie_word_embeddings", False)),
        context_length=int(raw.get("max_position_embeddings", 2048)),
    )


def _require(raw: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    missing = [key for key in keys if raw.get(key) is None]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")


def _rope_scaling(rope: dict[str, Any], where: str) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"{where}: rope_type {kind!r} is not supported (default or llama3)")
    _require(rope, _REQUIRED_SCALING, where)
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_context_length=int(rope["original_max_position_embeddings"]),
    )


def to_hf_config(config: LlamaConfig) -> dict[str, Any]:
    """The `config.json` from which `transformers` builds the same architecture."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.embed_dim,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "rope_parameters": rope,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_head,
        "max_position_embeddings": config.context_length,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
