"""A character tokenizer, a random decoder, and decoders whose every word is known beforehand."""

import dataclasses
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.llama import forward, logits_of, param_axes, param_shapes
from dart_jax.model.load import Model
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.model.tokenizer import ChatTokenizer
from tests import tiny_model
from tests.tiny_model import (
    character_tokenizer,
    character_vocabulary,
    random_adapter,
    random_params,
)

WORDS = ["They", " are", " alike", " and", "\nConclusion", ": ", "YES", "NO\n", " go", " on", "..."]
TOKENS = character_vocabulary(WORDS)
CONFIG = dataclasses.replace(tiny_model.CONFIG, vocab_size=len(TOKENS), context_length=1024)


@pytest.fixture(scope="session")
def tokenizer() -> ChatTokenizer:
    """One id a character; WORDS are only ever decoded."""
    pytest.importorskip("transformers")
    return ChatTokenizer(character_tokenizer(WORDS), "test")


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
    params = random_params(CONFIG)
    return Model(CONFIG, params, tokenizer, one_device, "random")


@pytest.fixture(scope="session")
def lora_params():
    """An adapter on every projection that changes what the model says."""
    return random_adapter(CONFIG, LoraConfig(rank=4), size_of_b=0.3)


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
