"""Families of models that share the Llama skeleton, and how others differ from it.

The skeleton is a stack of grouped-query attention and SwiGLU, each behind an RMSNorm. The names are
those of `model_type` in a checkpoint's `config.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Family:
    """A model family: its additions to the skeleton, and the reading of its `config.json`.

    Attributes:
        architecture: Its class in transformers.
        qkv_bias, qk_norm: As in `LlamaConfig`.
        required: Keys without which transformers would take the sizes of one of its models.
        slides: Whether layers have the `sliding_window` that is given: `if asked` by
            `use_sliding_window`.
    """

    architecture: str
    qkv_bias: bool = False
    qk_norm: bool = False
    required: tuple[str, ...] = ()
    slides: Literal["never", "always", "if asked"] = "if asked"


# `sliding_window` where a family has one and the key is missing, as in transformers.
DEFAULT_WINDOW = 4096

_SIZES = ("num_key_value_heads", "max_position_embeddings")
FAMILIES = {
    "llama": Family("LlamaForCausalLM", slides="never"),
    "mistral": Family("MistralForCausalLM", required=_SIZES, slides="always"),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True, required=_SIZES),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, required=(*_SIZES, "head_dim")),
}

_EXPERTS = "a mixture of experts"
_IMAGES = "an encoder of images"
_GEMMA = "norms that scale by 1 + weight, a scaled embedding, GELU"
_DIFFERENCES = {
    "cohere": "LayerNorm, attention and feed-forward side by side",
    "cohere2": "LayerNorm, attention and feed-forward side by side",
    "deepseek_v2": f"{_EXPERTS}, latent attention",
    "deepseek_v3": f"{_EXPERTS}, latent attention",
    "gemma": _GEMMA,
    "gemma2": f"{_GEMMA}, norms behind the sub-layers, capped logits",
    "gemma3": f"{_IMAGES}, {_GEMMA}, norms behind the sub-layers",
    "gemma3_text": f"{_GEMMA}, norms behind the sub-layers",
    "gpt_oss": f"{_EXPERTS}, attention sinks",
    "granite": "scaled embedding, residuals, scores and logits",
    "llama4": f"{_IMAGES}, {_EXPERTS}",
    "mistral3": _IMAGES,
    "mixtral": _EXPERTS,
    "mllama": _IMAGES,
    "olmo2": "norms behind the sub-layers, q and k norms over all heads together",
    "phi3": "one matrix for q, k and v, one for gate and up",
    "qwen2_5_vl": _IMAGES,
    "qwen2_moe": _EXPERTS,
    "qwen2_vl": _IMAGES,
    "qwen3_moe": _EXPERTS,
    "qwen3_next": f"{_EXPERTS}, linear attention",
    "qwen3_vl": _IMAGES,
    "smollm3": "layers without rotation",
}


def family_of(model_type: object, where: str) -> Family:
    """Look up the family of a `config.json`.

    Raises:
        ValueError: It is none of `FAMILIES`; names `where`, and the difference if it is known.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    difference = _DIFFERENCES.get(str(model_type))
    raise ValueError(
        f"{where}: model_type is {model_type!r}, which is not supported"
        f"{f' ({difference})' if difference else ''}; give a model of {', '.join(FAMILIES)}"
    )
