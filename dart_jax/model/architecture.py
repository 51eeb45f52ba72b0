"""Hyperparameters of a decoder of the Llama skeleton, read from a checkpoint's `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dart_jax.model.families import DEFAULT_WINDOW, FAMILIES, Family, family_of


@dataclass(frozen=True)
class RopeScaling:
    """Frequency rescaling of Llama 3.1 and 3.2 (`rope_type: llama3`).

    Attributes:
        factor: How much wavelengths far beyond the original context are stretched.
        low_freq_factor, high_freq_factor: Bounds, in turns over the original context, between
            which stretched and plain frequencies are blended.
        original_context_length: Context length in tokens before the model was extended.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True)
class LlamaConfig:
    """Shapes and constants of one decoder; the letters are those of shapes in the code.

    Attributes:
        qkv_bias: The projections q, k and v add a bias (Qwen2).
        qk_norm: Every head of q and of k goes through an RMSNorm before it is rotated (Qwen3).
        sliding_window: Tokens that attention reaches back, in some layers or all (Mistral); None
            for no such limit. `context_length` is within it, so that it never comes into effect.
    """

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
    qkv_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None


def projection_shapes(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """(in, out) features of each projection that can carry an adapter."""
    D, F = config.embed_dim, config.ffn_dim
    q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        "q": (D, q_dim),
        "k": (D, kv_dim),
        "v": (D, kv_dim),
        "o": (q_dim, D),
        "gate": (D, F),
        "up": (D, F),
        "down": (F, D),
    }


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
# Keys of config.json that ask for a feature this decoder lacks, unless they have this value or
# null. They belong to other architectures, whose files may have been renamed to `llama`.
_NEUTRAL = {
    "attention_bias": False,
    "attention_multiplier": None,
    "attn_logit_softcapping": None,
    "clip_qkv": None,
    "embedding_multiplier": 1.0,
    "final_logit_softcapping": None,
    "hidden_act": "silu",
    "logit_scale": 1.0,
    "logits_scaling": 1.0,
    "mlp_bias": False,
    "no_rope_layers": None,
    "num_experts": 0,
    "num_local_experts": 0,
    "partial_rotary_factor": 1.0,
    "residual_multiplier": 1.0,
    "use_qk_norm": False,
}
# Keys of rope_parameters or rope_scaling that every kind of scaling has.
_ROPE_KEYS = {"rope_type", "type", "rope_theta"}


def from_hf_config(raw: dict[str, Any], where: str) -> LlamaConfig:
    """Read a Hugging Face `config.json` of one of `FAMILIES` (transformers 4 or 5).

    Raises:
        ValueError: Another architecture, a feature that this decoder lacks, or a missing key;
            names `where`.
    """
    family = family_of(raw.get("model_type"), where)
    _refuse_beyond(raw, where)
    _require(raw, (*_REQUIRED, *family.required), where)
    window = _window(raw, family, where)
    context_length = int(raw.get("max_position_embeddings", 2048))

    # Where both keys are given, the older one replaces the other, as in transformers.
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}

    # Older files lack some of these keys; the defaults are those of transformers.
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
        rope_scaling=_rope_scaling(rope, raw, where),
        norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        tied_head=bool(raw.get("tie_word_embeddings", False)),
        context_length=context_length if window is None else min(context_length, window),
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        sliding_window=window,
    )


def _require(raw: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    missing = [key for key in keys if raw.get(key) is None]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")


def _refuse_beyond(raw: dict[str, Any], where: str) -> None:
    """Raise ValueError for a setting that would change the model and is not supported."""
    for key, neutral in _NEUTRAL.items():
        value = raw.get(key)
        if value is not None and value != neutral:
            raise ValueError(f"{where}: {key} is {value!r}, which is not supported")

    if raw.get("quantization_config"):
        raise ValueError(
            f"{where}: quantization_config: quantised checkpoints are not supported; take the "
            "float release and set model.quantize"
        )


def _window(raw: dict[str, Any], family: Family, where: str) -> int | None:
    """Read how far back attention reaches in the layers that limit it; None where none does.

    Raises:
        ValueError: A window in a family that has none, or layers of an unknown kind.
    """
    if family.slides == "never":
        _refuse_window(raw, where)
        return None
    if family.slides == "always":
        return raw.get("sliding_window", DEFAULT_WINDOW)

    asked = raw.get("use_sliding_window", False)
    kinds = {"full_attention", "sliding_attention"} if asked else {"full_attention"}
    others = sorted(set(raw.get("layer_types") or ()) - kinds)
    if others:
        raise ValueError(f"{where}: layer_types has {', '.join(others)}, which is not supported")
    return raw.get("sliding_window", DEFAULT_WINDOW) if asked else None


def _refuse_window(raw: dict[str, Any], where: str) -> None:
    window = raw.get("sliding_window")
    in_use = window is not None and raw.get("use_sliding_window", True)
    if in_use and window < raw.get("max_position_embeddings", 2048):
        raise ValueError(
            f"{where}: sliding_window is {window}, which is not supported; with "
            "max_position_embeddings of no more than that it would never come into effect"
        )


def _rope_scaling(rope: dict[str, Any], raw: dict[str, Any], where: str) -> RopeScaling | None:
    """Read the rotary rescaling; refuse kinds and settings that would be ignored."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "llama3"):
        raise ValueError(f"{where}: rope_type {kind!r} is not supported (default or llama3)")

    given = {key for key, value in rope.items() if value is not None}
    if rope.get("partial_rotary_factor") == 1.0:
        # All of a head's features are rotated, as they are here.
        given.remove("partial_rotary_factor")
    # Without a scaling, the original context length may stand there: it has no effect.
    used = _ROPE_KEYS | set(_REQUIRED_SCALING if kind == "llama3" else _REQUIRED_SCALING[-1:])
    if given - used:
        raise ValueError(
            f"{where}: rotary settings: {', '.join(sorted(given - used))} would have no effect "
            f"with rope_type {kind!r}; state the rope_type that was meant, or remove them"
        )

    if kind == "default":
        return None
    _require(rope, _REQUIRED_SCALING, where)

    # Releases of transformers differ in which of the two they read.
    outer = raw.get("original_max_position_embeddings")
    inner = rope.get("original_max_position_embeddings")
    if outer is not None and outer != inner:
        raise ValueError(
            f"{where}: original_max_position_embeddings is {outer}, and {inner} in the rotary "
            "settings; remove the wrong one"
        )
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_context_length=int(rope["original_max_position_embeddings"]),
    )


def to_hf_config(config: LlamaConfig) -> dict[str, Any]:
    """Write the `config.json` from which `transformers` builds the same architecture."""
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

    model_type = _model_type(config)
    family = FAMILIES[model_type]
    raw = {
        "architectures": [family.architecture],
        "model_type": model_type,
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
    }
    if family.slides == "never":
        return raw | {"attention_bias": False, "mlp_bias": False}
    raw["sliding_window"] = config.sliding_window
    if family.slides == "if asked":
        raw["use_sliding_window"] = config.sliding_window is not None
    return raw


def _model_type(config: LlamaConfig) -> str:
    """Name the family that has what the configuration adds to the skeleton."""
    if config.qkv_bias and config.qk_norm:
        raise ValueError("no family of transformers has biases on q, k and v and norms on q and k")
    if config.qkv_bias:
        return "qwen2"
    if config.qk_norm:
        return "qwen3"
    return "llama" if config.sliding_window is None else "mistral"
