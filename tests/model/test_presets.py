"""Named architectures against what is published of their models."""

import math

import jax
import pytest

from dart_jax.model.llama import param_shapes
from dart_jax.model.load import EMBEDDED, open_checkpoint, resolve_path
from dart_jax.model.presets import PRESETS

# Parameters, as the model cards count them.
PUBLISHED = {
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "smollm2-135m": 134_515_008,
}


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_as_many_as_published(name):
    leaves = jax.tree.leaves(param_shapes(PRESETS[name]))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PUBLISHED[name]


def test_smollm2_is_the_checkpoint_at_hand():
    try:
        path = resolve_path(EMBEDDED)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert open_checkpoint(path)[0] == PRESETS["smollm2-135m"]
