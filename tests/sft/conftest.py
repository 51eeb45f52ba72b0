"""A two-layer decoder with an adapter, a byte tokenizer, and examples, for the sft tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.load import Model
from dart_jax.model.sharding import make_mesh
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.sft.config import SftConfig
from dart_jax.sft.examples import Example
from dart_jax.sft.packing import make_plan
from dart_jax.sft.step import TrainSpec, gradients
from tests.tiny_model import CONFIG, random_adapter, random_params

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@pytest.fixture(scope="session")
def config():
    """Its vocabulary holds the byte tokenizer's; no axis of a mesh divides it."""
    return dataclasses.replace(CONFIG, vocab_size=263)


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
def make_examples(config):
    """A function: n examples of unequal lengths, with ids e0, e1, ... and these weights in turn.

    Their prompts begin with the same `shared` tokens.
    """

    def make(n, weights=(1.0,), shared=5):
        rng = np.random.default_rng(0)
        common = rng.integers(1, config.vocab_size, shared)
        found = []
        for index in range(n):
            prompt, completion = rng.integers(3, 20), rng.integers(1, 12)
            own = rng.integers(1, config.vocab_size, prompt + completion)
            tokens = (*common.tolist(), index % config.vocab_size, *own[1:].tolist())
            weight = weights[index % len(weights)]
            found.append(Example(f"e{index}", tokens, int(shared + prompt), weight))
        return found

    return make


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """One token a byte, and four special ones of the chat template."""
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: index for index, symbol in enumerate(SPECIAL + alphabet)}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    raw.add_special_tokens(SPECIAL)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")
    wrapped.chat_template = CHAT
    folder = tmp_path_factory.mktemp("tokenizer")
    wrapped.save_pretrained(folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def model(config, params, tokenizer):
    """The decoder on one device, as the loop takes it."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return Model(config, params, tokenizer, mesh, "tiny")


@pytest.fixture(scope="session")
def make_spec(config, lora):
    """A function: the static half of a step."""

    def make(normalization="weighted_token_mean", lora=lora):
        return TrainSpec(config, lora, normalization, loss_chunk=8, remat="projections")

    return make


@pytest.fixture(scope="session")
def make_batch():
    """A function: all examples as the one step of a plan; its (Batch, Layout)."""

    def make(examples, rows=8, micro_batches=1, packing="none", data_parallel=1, row_length=256):
        sft = SftConfig(
            batch_size=rows,
            micro_batch_size=rows // micro_batches,
            packing=packing,
            row_length=row_length,
        )
        plan = make_plan(examples, sft, epochs=1, seed=0, data_parallel=data_parallel)
        assert len(plan) == 1
        return jax.tree.map(jnp.asarray, plan[0].batch), plan[0].layout

    return make


@pytest.fixture(scope="session")
def run_gradients(params, lora_params, make_spec):
    """A function: (adapter gradients, loss) of an [A, B, T] batch, without dropout."""
    compiled = jax.jit(gradients, static_argnames=("spec", "layout"))

    def run(batch, layout, normalization="weighted_token_mean"):
        spec = make_spec(normalization)
        return compiled(lora_params, params, batch, spec=spec, layout=layout, key=None)[:2]

    return run


@pytest.fixture(scope="session")
def assert_close():
    """A function: two (gradients, loss) pairs agree; each tensor relative to its own norm."""

    def check(found, expected, rel=1e-5):
        def compare(path, a, b):
            error = np.linalg.norm(np.asarray(a - b)) / np.linalg.norm(np.asarray(b))
            assert error < rel, f"{jax.tree_util.keystr(path)}: relative error {error}"

        jax.tree_util.tree_map_with_path(compare, found, expected)

    return check
