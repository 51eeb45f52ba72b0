"""The shape of the tiny model."""

import pytest

from dart_jax.model.architecture import LlamaConfig
from tests.tiny_model import CONFIG


@pytest.fixture(scope="session")
def tiny_config() -> LlamaConfig:
    return CONFIG
