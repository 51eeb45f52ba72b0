"""Tiny models: a shape, and a random Llama in Hugging Face's form with its own tokenizer."""

from pathlib import Path

import pytest

from dart_jax.data.mini_suite import load_mini
from dart_jax.model.architecture import LlamaConfig

CHAT = (
    "{% for m in messages %}<head>{{ m.role }}\n{{ m.content }}<eot>\n{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=67,
        num_layers=2,
        embed_dim=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        ffn_dim=48,
        rope_theta=10000.0,
        rope_scaling=None,
        norm_eps=1e-5,
        tied_head=False,
        context_length=256,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    torch = pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("tiny")
    raw = tokenizers.ByteLevelBPETokenizer()
    texts = [f"{item.question.text} {item.rationale}" for item in load_mini()[::8]]
    special = ["<unk>", "<eos>", "<head>", "<eot>"]
    raw.train_from_iterator(texts, vocab_size=800, special_tokens=special, show_progress=False)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer, eos_token="<eos>", unk_token="<unk>"
    )
    wrapped.add_special_tokens({"additional_special_tokens": ["<head>", "<eot>"]})
    wrapped.chat_template = CHAT
    wrapped.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
