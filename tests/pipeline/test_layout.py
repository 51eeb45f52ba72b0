"""Weights are split over as few devices as it takes, which changes no result."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.backend import Hardware
from dart_jax.config import DartConfig
from dart_jax.generate.config import DecodeConfig
from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.llama import forward, logits_of, param_axes
from dart_jax.model.presets import PRESETS
from dart_jax.model.sharding import make_mesh, sharding_of, tree_shardings
from dart_jax.pipeline import layout
from dart_jax.pipeline.footprint import GIB
from dart_jax.pipeline.layout import choose, settle
from dart_jax.sft.config import SftConfig
from tests.tiny_model import CONFIG, random_params

LLAMA_8B = PRESETS["llama-3-8b"]
SETTINGS = DartConfig(model=ModelConfig(dtype="bfloat16"), sft=SftConfig(batch_size=16))


def gpus(gib, count=8):
    return Hardware("gpu", "made up", count, None if gib is None else int(gib * GIB))


def chosen(gib, config=SETTINGS, models=(LLAMA_8B,), trains=True):
    return choose(config, gpus(gib), models, trains)


def test_weights_are_split_only_where_a_copy_does_not_fit():
    """Llama-3-8B has 15 GiB of weights in bfloat16."""
    large, small = chosen(72), chosen(18)
    assert large.mesh == MeshConfig(-1, 1, 1)
    assert "data 8, fsdp 1, tensor 1, a copy of the model on each device" in large.reason
    assert "of 72.0 GiB a device, by formula" in large.reason
    assert small.mesh.fsdp in (2, 4, 8) and "and fsdp 1 would take" in small.reason
    # No more parts than it takes, and all that there are where nothing suffices.
    shards = [chosen(gib).mesh.fsdp for gib in range(4, 80, 2)]
    assert shards == sorted(shards, reverse=True) and set(shards) == {1, 2, 4, 8}
    # Another model in memory, and no training step, count.
    assert chosen(40, models=[LLAMA_8B, LLAMA_8B]).mesh.fsdp > chosen(40).mesh.fsdp
    assert chosen(24, trains=False).mesh.fsdp <= chosen(24).mesh.fsdp


@pytest.mark.parametrize(
    "mesh", [MeshConfig(1, -1, 1), MeshConfig(-1, 1, 1), MeshConfig(2, 2, 2), MeshConfig(data=8)]
)
def test_what_is_set_is_kept(mesh):
    for gib in (4, 400):
        found = chosen(gib, dataclasses.replace(SETTINGS, mesh=mesh)).mesh
        assert found == dataclasses.replace(mesh, fsdp=1 if mesh.fsdp == "auto" else mesh.fsdp)


def test_a_tensor_axis_leaves_the_rest_to_choose():
    config = dataclasses.replace(SETTINGS, mesh=MeshConfig(tensor=2))
    assert {chosen(gib, config).mesh.fsdp for gib in range(4, 80, 4)} == {1, 2, 4}


def test_without_a_known_memory_it_is_a_copy_on_each_device(monkeypatch, capsys):
    """No checkpoint is opened for it: there may be none yet."""
    monkeypatch.setattr(layout, "open_checkpoint", pytest.fail)
    config = dataclasses.replace(SETTINGS, model=ModelConfig(path="no/such/model"))
    assert settle(config, gpus(None), trains=True).mesh == MeshConfig(-1, 1, 1)
    assert "as the memory of a gpu device is not known" in capsys.readouterr().out
    for found, mesh in ((gpus(80, count=1), MeshConfig()), (gpus(80), MeshConfig(1, -1, 1))):
        config = dataclasses.replace(config, mesh=mesh)
        assert settle(config, found, trains=True) == config
    assert not capsys.readouterr().out


def test_the_models_that_a_run_loads_decide(monkeypatch, capsys):
    sizes = {"m": LLAMA_8B, "judge": LLAMA_8B}
    monkeypatch.setattr(layout, "resolve_path", lambda path: path)
    monkeypatch.setattr(layout, "open_checkpoint", lambda path: (sizes[path], None))
    alone = dataclasses.replace(SETTINGS, model=ModelConfig(path="m", dtype="bfloat16"))
    judge = dataclasses.replace(alone.judge, provider="local", model="judge")
    both = dataclasses.replace(alone, judge=judge)
    found = [settle(config, gpus(30), trains=False).mesh.fsdp for config in (alone, both)]
    assert found[0] < found[1]
    assert capsys.readouterr().out.startswith("mesh: data 8, fsdp 1, tensor 1, a copy of the model")


def test_either_choice_computes_the_same():
    tokens = np.arange(96, dtype=np.int32).reshape(8, 12) % CONFIG.vocab_size
    positions = jnp.broadcast_to(jnp.arange(12)[None], (8, 12))
    params = random_params(CONFIG)

    @jax.jit
    def logits(params, tokens):
        attention = dense_attention(segment_mask(positions, jnp.ones_like(tokens)))
        hidden, _ = forward(CONFIG, params, {}, tokens, positions, attention, lora_scale=0.0)
        return logits_of(params, hidden)

    results = []
    for gib, is_split in ((72, False), (4, True)):
        mesh = make_mesh(chosen(gib).mesh, jax.devices()[:8])
        placed = jax.device_put(params, tree_shardings(mesh, param_axes(CONFIG), params))
        assert placed["embed"].is_fully_replicated != is_split
        rows = jax.device_put(tokens, sharding_of(mesh, ("batch", None), tokens.shape))
        results.append(logits(placed, rows))
    np.testing.assert_allclose(*results, atol=1e-5)


def test_slots_that_are_set_count():
    few, many = (dataclasses.replace(SETTINGS, decode=DecodeConfig(slots=n)) for n in (8, 4096))
    assert chosen(40, few, trains=False).mesh.fsdp == 1
    assert chosen(40, many, trains=False).mesh.fsdp > 1
