"""Kernel attention is dense attention under the segment mask, where a kernel can run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from dart_jax.model.attention import dense_attention, segment_mask
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.cudnn_attention import FORWARD_KERNEL, cudnn_attention
from dart_jax.model.kernel_attention import choose_attention, splash_attention
from dart_jax.model.llama import forward, init_params
from dart_jax.model.lora import init_lora
from dart_jax.model.packed_attention import Layout
from dart_jax.model.sharding import make_mesh
from tests.tiny_model import CONFIG

N, K, H, T = 4, 2, 64, 160


def _case(prefix, dtype=jnp.float32):
    """Two rows, one with padding: q, k, v, what reads the result, positions and segments."""
    lengths = [[70, 40, 150 - 110 - prefix], [30, 50]]
    positions, segments = np.zeros((2, 2, T), np.int32)
    for row, parts in enumerate(lengths):
        ids = [-1] * prefix + [s for s, n in enumerate(parts, 1) for _ in range(n)]
        at = [*range(prefix), *(prefix + i for n in parts for i in range(n))]
        segments[row, : len(ids)], positions[row, : len(at)] = ids, at
    keys = jax.random.split(jax.random.key(0), 4)
    q = jax.random.normal(keys[0], (2, T, N, H), dtype)
    k, v = (jax.random.normal(key, (2, K, T, H), dtype) for key in keys[1:3])
    read = jax.random.normal(keys[3], (2, T, N, H)) * (segments != 0)[:, :, None, None]
    return (q, k, v), read, jnp.asarray(positions), jnp.asarray(segments)


def _value_and_grads(attention, qkv, read):
    """What is read of the result, and the gradients of its sum."""

    def value(*qkv):
        out = read * attention(*qkv).astype(jnp.float32)
        return jnp.sum(out), out

    grads, out = jax.jit(jax.grad(value, argnums=(0, 1, 2), has_aux=True))(*qkv)
    return out, *grads


def _assert_close(found, expected, rel):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(np.float32(a - b)) < rel * np.linalg.norm(np.float32(b))


@pytest.mark.parametrize("prefix", [0, 9])
def test_splash_is_dense(prefix):
    """Value and gradients of the kernel's own program, interpreted; segments and prefix kept."""
    qkv, read, positions, segments = _case(prefix)
    layout = Layout(prefix, 70, 3, 64)
    splash = splash_attention(segments, layout, interpret=True)
    dense = dense_attention(segment_mask(positions, segments))
    expected = _value_and_grads(dense, qkv, read)
    _assert_close(_value_and_grads(splash, qkv, read), expected, 1e-5)
    everything = dense_attention(jnp.ones((2, T, T), bool))
    with pytest.raises(AssertionError):
        _assert_close(_value_and_grads(everything, qkv, read), expected, 1e-5)


def test_splash_on_a_mesh_is_splash_alone():
    """Rows over fsdp, heads over tensor."""
    qkv, read, _, segments = _case(9)
    layout = Layout(9, 70, 3, 64)
    alone = splash_attention(segments, layout, interpret=True)
    mesh = make_mesh(MeshConfig(1, 2, 2), jax.devices()[:4])
    spread = splash_attention(segments, layout, mesh, interpret=True)
    _assert_close(_value_and_grads(spread, qkv, read), _value_and_grads(alone, qkv, read), 1e-5)


@pytest.mark.parametrize("prefix", [0, 9])
@pytest.mark.parametrize("longest", [70, 160], ids=["slots", "mask"])
def test_what_cudnn_is_given_is_dense(prefix, longest):
    """By jax's other implementation of the same call, which runs anywhere."""
    qkv, read, positions, segments = _case(prefix)
    layout = Layout(prefix, longest, 3, 64)
    attention = cudnn_attention(positions, segments, layout, implementation="xla")
    dense = dense_attention(segment_mask(positions, segments))
    expected = _value_and_grads(dense, qkv, read)
    _assert_close(_value_and_grads(attention, qkv, read), expected, 1e-5)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
def test_cudnn_is_dense():
    qkv, read, positions, segments = _case(9, jnp.bfloat16)
    dense = dense_attention(segment_mask(positions, segments))
    attention = cudnn_attention(positions, segments, Layout(9, 70, 3, 64))
    found = _value_and_grads(attention, qkv, read)
    _assert_close(found, _value_and_grads(dense, qkv, read), 2e-2)


@pytest.fixture
def cudnn_is_said_to_be_there(monkeypatch):
    """Tracing asks the driver for it; nothing is lowered or run."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91200)
    for question in ("check_compute_capability", "is_cuda_compute_capability_equal"):
        monkeypatch.setattr(fused_attention_stablehlo, question, lambda text: text == "9.0")


@pytest.mark.parametrize(("remat", "kernels"), [("none", 1), ("projections", 1), ("layer", 2)])
def test_the_forward_kernel_runs_again_only_for_remat_layer(
    remat, kernels, cudnn_is_said_to_be_there
):
    _, _, positions, segments = _case(9)
    attention = cudnn_attention(positions, segments, Layout(9, 70, 3, 64))
    shapes = jax.eval_shape(lambda key: init_params(key, CONFIG, jnp.bfloat16), jax.random.key(0))
    lora = jax.eval_shape(lambda key: init_lora(key, CONFIG, LoraConfig(rank=4)), jax.random.key(0))

    def loss(lora, base):
        tokens = jnp.zeros_like(positions)
        hidden, _ = forward(
            CONFIG, base, lora, tokens, positions, attention, lora_scale=1.0, remat=remat
        )
        return jnp.sum(hidden.astype(jnp.float32))

    text = str(jax.make_jaxpr(jax.grad(loss))(lora, shapes))
    assert text.count(f"{FORWARD_KERNEL}[") == kernels
    assert text.count(f"{FORWARD_KERNEL.replace('fwd', 'bwd')}[") == 1


@pytest.mark.parametrize(
    ("asked", "platform", "dtype", "expected"),
    [
        ("auto", "cpu", "float32", "xla"),
        ("auto", "tpu", "bfloat16", "splash"),
        ("auto", "gpu", "bfloat16", "cudnn"),
        ("auto", "gpu", "float32", "xla"),
        ("xla", "tpu", "bfloat16", "xla"),
        ("splash", "tpu", "float32", "splash"),
    ],
)
def test_auto_takes_what_the_devices_have(asked, platform, dtype, expected):
    assert choose_attention(asked, platform, dtype) == expected


@pytest.mark.parametrize(
    ("asked", "platform", "dtype"),
    [("splash", "cpu", "float32"), ("cudnn", "cpu", "bfloat16"), ("cudnn", "gpu", "float32")],
)
def test_a_kernel_that_is_not_there_is_an_error(asked, platform, dtype):
    with pytest.raises(ValueError, match=f"sft.attention: {asked}"):
        choose_attention(asked, platform, dtype)
