"""Architectures by name, for work that needs shapes but no checkpoint.

The numbers are from the config.json of each model on the Hugging Face Hub:

    llama-3-8b      meta-llama/Meta-Llama-3-8B          llama-3.2-1b    meta-llama/Llama-3.2-1B
    llama-3.1-8b    meta-llama/Llama-3.1-8B             llama-3.2-3b    meta-llama/Llama-3.2-3B
    llama-3-70b     meta-llama/Meta-Llama-3-70B         smollm2-135m    HuggingFaceTB/SmolLM2-135M
    qwen2.5-0.5b    Qwen/Qwen2.5-0.5B-Instruct          qwen3-0.6b      Qwen/Qwen3-0.6B
    qwen2.5-7b      Qwen/Qwen2.5-7B-Instruct            qwen3-8b        Qwen/Qwen3-8B
    mistral-7b      mistralai/Mistral-7B-Instruct-v0.3

An -Instruct model has the architecture of its base; of Qwen2.5, the shorter context.
"""

from dataclasses import replace

from dart_jax.model.architecture import LlamaConfig, RopeScaling

_LLAMA_3_8B = LlamaConfig(
    vocab_size=128256,
    num_layers=32,
    embed_dim=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn_dim=14336,
    rope_theta=500000.0,
    rope_scaling=None,
    norm_eps=1e-5,
    tied_head=False,
    context_length=8192,
)
_LLAMA_3_2_3B = replace(
    _LLAMA_3_8B,
    num_layers=28,
    embed_dim=3072,
    num_heads=24,
    ffn_dim=8192,
    rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192),
    tied_head=True,
    context_length=131072,
)
_QWEN_2_5_7B = LlamaConfig(
    vocab_size=152064,
    num_layers=28,
    embed_dim=3584,
    num_heads=28,
    num_kv_heads=4,
    head_dim=128,
    ffn_dim=18944,
    rope_theta=1000000.0,
    rope_scaling=None,
    norm_eps=1e-6,
    tied_head=False,
    context_length=32768,
    qkv_bias=True,
)
_QWEN_3_8B = LlamaConfig(
    vocab_size=151936,
    num_layers=36,
    embed_dim=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn_dim=12288,
    rope_theta=1000000.0,
    rope_scaling=None,
    norm_eps=1e-6,
    tied_head=False,
    context_length=40960,
    qk_norm=True,
)

PRESETS = {
    "llama-3-8b": _LLAMA_3_8B,
    "llama-3-70b": replace(_LLAMA_3_8B, num_layers=80, embed_dim=8192, num_heads=64, ffn_dim=28672),
    "llama-3.1-8b": replace(
        _LLAMA_3_8B, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192), context_length=131072
    ),
    "llama-3.2-1b": replace(
        _LLAMA_3_2_3B, num_layers=16, embed_dim=2048, num_heads=32, head_dim=64
    ),
    "llama-3.2-3b": _LLAMA_3_2_3B,
    "mistral-7b": replace(
        _LLAMA_3_8B, vocab_size=32768, rope_theta=1000000.0, context_length=32768
    ),
    "qwen2.5-0.5b": replace(
        _QWEN_2_5_7B,
        vocab_size=151936,
        num_layers=24,
        embed_dim=896,
        num_heads=14,
        num_kv_heads=2,
        head_dim=64,
        ffn_dim=4864,
        tied_head=True,
    ),
    "qwen2.5-7b": _QWEN_2_5_7B,
    "qwen3-0.6b": replace(
        _QWEN_3_8B, num_layers=28, embed_dim=1024, num_heads=16, ffn_dim=3072, tied_head=True
    ),
    "qwen3-8b": _QWEN_3_8B,
    "smollm2-135m": LlamaConfig(
        vocab_size=49152,
        num_layers=30,
        embed_dim=576,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        ffn_dim=1536,
        rope_theta=100000.0,
        rope_scaling=None,
        norm_eps=1e-5,
        tied_head=True,
        context_length=8192,
    ),
}
