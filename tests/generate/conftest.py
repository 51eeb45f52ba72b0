"""A character tokenizer, a random decoder, and decoders whose every word is known beforehand."""

import dataclasses
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.llama import forward, init_params, logits_of, param_axes, param_shapes
from dart_jax.model.load import Model
from dart_jax.model.lora import init_lora
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.tokenizer import ChatTokenizer

SPECIAL = ["<unk>", "<eos>", "<eot>", "<head>", "</head>"]
CHARACTERS = ["\n", *map(chr, range(32, 127))]
WORDS = ["They", " are", " alike", " and", "\nConclusion", ": ", "YES", "NO\n", " go", " on", "..."]
TOKENS = SPECIAL + CHARACTERS + WORDS
TEMPLATE = (
    "{% for m in messages %}<head>{{ m.role }}</head>{{ m.content }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant</head>{% endif %}"
)
CONFIG = LlamaConfig(
    vocab_size=len(TOKENS),
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
    context_length=1024,
)


@pytest.fixture(scope="session")
def tokenizer() -> ChatTokenizer:
    """One id a character; WORDS are only ever decoded."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocab = {token: index for index, token in enumerate(TOKENS)}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    raw.decoder = tokenizers.decoders.Fuse()
    raw.add_special_tokens(SPECIAL)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<eos>", unk_token="<unk>"
    )
    wrapped.chat_template = TEMPLATE
    return ChatTokenizer(wrapped, "test")


@pytest.fixture(scope="session")
def ids():
    """A function: ids of tokens given by name."""
    return lambda *names: tuple(TOKENS.index(name) for name in names)


@pytest.fixture(scope="session")
def one_device() -> Mesh:
    return make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])


@pytest.fixture(scope="session")
def model(tokenizer, one_device) -> Model:
    """Random weights of a size that makes every token depend on the whole prompt."""
    params = jax.jit(lambda key: jax.tree.map(lambda w: 8 * w, init_params(key, CONFIG)))(
        jax.random.key(0)
    )
    return Model(CONFIG, params, tokenizer, one_device, "random")


@pytest.fixture(scope="session")
def lora_params():
    """An adapter on every projection that changes what the model says."""
    shapes = jax.eval_shape(lambda: init_lora(jax.random.key(1), CONFIG, LoraConfig(rank=4)))
    rng = np.random.default_rng(1)  # jax would compile each shape's numbers

    def draw(kind, shape):
        size = 0.6 * shape[1] ** -0.5 if kind == "A" else 0.2
        return jnp.asarray(size * rng.normal(size=shape), jnp.float32)

    return {
        target: {kind: draw(kind, leaf.shape) for kind, leaf in weights.items()}
        for target, weights in shapes.items()
    }


@pytest.fixture(scope="session")
def on_mesh():
    """A function: the same model spread over eight devices."""

    def spread(model: Model, data: int, fsdp: int, tensor: int) -> Model:
        mesh = make_mesh(MeshConfig(data, fsdp, tensor))
        shardings = tree_shardings(mesh, param_axes(model.config), param_shapes(model.config))
        placed = jax.device_put(model.base_params, shardings)
        return dataclasses.replace(model, base_params=placed, mesh=mesh)

    return spread


@pytest.fixture(scope="session")
def chains(tokenizer, one_device):
    """A function: a model that writes given chains.

    `chains("a They <eot>".split())` makes "They" the sure successor of "a", and so on; the layers
    add nothing, the embedding is the identity, and the head maps each token to its successor.
    A token without a successor repeats itself.
    """
    V = len(TOKENS)
    config = dataclasses.replace(CONFIG, embed_dim=V, num_layers=1, num_heads=2)

    def make(*chains: list[str]) -> Model:
        successor = np.arange(V)
        for first, second in (step for chain in chains for step in pairwise(chain)):
            assert successor[TOKENS.index(first)] == TOKENS.index(first), f"{first!r} has one"
            successor[TOKENS.index(first)] = TOKENS.index(second)
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), param_shapes(config))
        params |= {"embed": np.eye(V), "final_norm": np.ones(V), "head": 10 * np.eye(V)[successor]}
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
        return Model(config, params, tokenizer, one_device, "chains")

    return make


@pytest.fixture(scope="session")
def logits():
    """A function: float32 logits [T, V] of one row, computed in one piece without a cache."""

    @partial(jax.jit, static_argnums=0)
    def compiled(config, params, tokens, lora_params, scale):
        positions = jnp.arange(tokens.shape[1])[None]
        attention = dense_attention(segment_mask(positions, jnp.ones_like(tokens)))
        hidden, _ = forward(
            config, params, lora_params, tokens, positions, attention, lora_scale=scale
        )
        return logits_of(params, hidden)

    def run(model: Model, tokens, lora_params=None, scale=0.0) -> np.ndarray:
        # Padded behind, which no earlier token sees: one compiled shape for all rows.
        row = np.zeros((1, 192), np.int32)
        row[0, : len(tokens)] = tokens
        found = compiled(model.config, model.base_params, row, lora_params or {}, scale)
        return np.asarray(found)[0, : len(tokens)]

    return run
