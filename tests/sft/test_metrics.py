"""A log line's numbers, against arrays and counts done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import segment_mask
from dart_jax.model.config import LoraConfig, MeshConfig
from dart_jax.model.packed_attention import Layout
from dart_jax.model.sharding import make_mesh
from dart_jax.sft.batch import make_step_batch
from dart_jax.sft.cross_entropy import SegmentSums
from dart_jax.sft.examples import Example
from dart_jax.sft.flops import Counts, count_attended_pairs, peak_flops, train_flops
from dart_jax.sft.metrics import (
    Workload,
    count_step,
    effective_sample_size,
    make_log_line,
    mean_loss_by,
    workload,
)
from dart_jax.sft.step import Metrics

CONFIG = LlamaConfig(
    vocab_size=11,
    num_layers=3,
    embed_dim=4,
    num_heads=2,
    num_kv_heads=1,
    head_dim=5,
    ffn_dim=7,
    rope_theta=10000.0,
    rope_scaling=None,
    norm_eps=1e-5,
    tied_head=True,
    context_length=64,
)
LLAMA3_8B = LlamaConfig(
    vocab_size=128256,
    num_layers=32,
    embed_dim=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn_dim=14336,
    rope_theta=5e5,
    rope_scaling=None,
    norm_eps=1e-5,
    tied_head=False,
    context_length=8192,
)


@pytest.mark.parametrize(
    ("weights", "size"),
    [
        ([1, 1, 1, 1], 4),
        ([3, 3], 2),
        ([4, 1, 1], 36 / 18),
        ([1, 0, 0], 1),
        ([4, 3, 2, 1], 100 / 30),
        ([0, 0], 0),
        ([], 0),
    ],
)
def test_effective_sample_size(weights, size):
    assert effective_sample_size(np.array(weights, float)) == pytest.approx(size)


def test_mean_loss_by_is_per_token():
    """Two examples of one group: 6 nats over 2 tokens and 1 over 8 are 0.7 a token, not 1.5625."""
    sums, tokens = np.array([6.0, 1.0, 5.0, 2.0, 0.0]), np.array([2.0, 8.0, 5.0, 1.0, 0.0])
    found = mean_loss_by(["repair", "repair", "distill", None, "empty"], sums, tokens)
    assert found == {"distill": 1.0, "repair": pytest.approx(0.7)}


def test_attended_pairs_of_the_documented_row():
    assert count_attended_pairs(np.array([-1, -1, 1, 1, 1, 2, 0])) == 3 + (6 + 6) + (1 + 2)


def test_attended_pairs_are_those_of_the_mask():
    rng = np.random.default_rng(0)
    for _ in range(5):
        lengths = rng.integers(1, 6, 4)
        ids = np.repeat([-1, 1, 2, 0], lengths)
        positions = np.concatenate(
            [
                np.arange(lengths[0]),
                *(lengths[0] + np.arange(n) for n in lengths[1:3]),
                np.zeros(lengths[3], int),
            ]
        )
        mask = np.array(segment_mask(jnp.array(positions)[None], jnp.array(ids)[None]))
        real = ids != 0
        assert count_attended_pairs(ids) == mask[0][real][:, real].sum()
        assert count_attended_pairs(np.stack([ids, ids])[None]) == 2 * count_attended_pairs(ids)


def test_train_flops_by_hand():
    """q 4x10, k and v 4x5, o 10x4, gate and up 4x7, down 7x4; adapters of rank 2 on q and down."""
    lora = LoraConfig(rank=2, alpha=4.0, targets=("q", "down"))
    counts = Counts(padded_tokens=100, tokens=6, supervised_tokens=2, attended_pairs=21)
    base = 6 * 4 * (40 + 20 + 20 + 40 + 28 + 28 + 28)
    adapters = 6 * 6 * 2 * ((4 + 10) + (7 + 4))
    attention = 21 * 12 * 2 * 5
    head = 2 * 4 * 4 * 11
    assert train_flops(CONFIG, lora, counts) == 3 * (base + adapters + attention) + head


def test_train_flops_of_a_large_model_are_about_4n_a_token():
    """N: parameters in matrix products, the head counted in full; 8 rows of 512 tokens."""
    counts = Counts(0, 8 * 512, 8 * 512, 8 * 512 * 513 // 2)
    lora = LoraConfig()
    projections = 4096 * (4096 + 2 * 1024 + 4096 + 3 * 14336) * 32
    n = projections + 4096 * 128256
    assert train_flops(LLAMA3_8B, lora, counts) / counts.tokens == pytest.approx(4 * n, rel=0.03)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v4 lite", 138e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 3090", None),
        ("cpu", None),
    ],
)
def test_peak_flops(kind, peak):
    assert peak_flops(kind) == peak


def test_workload_of_a_cpu_has_no_peak():
    assert workload(CONFIG, LoraConfig(), make_mesh(MeshConfig())).peak is None


def example(name, length, weight, severity, source):
    return Example(name, tuple(range(1, 1 + length)), 2, weight, severity, source)


EXAMPLES = [
    example("a", 6, 4.0, 4, "repair"),
    example("b", 4, 1.0, 1, "repair"),
    example("c", 5, 1.0, None, "distill"),
]
LAYOUT = Layout(prefix=0, slot=8, segments=2, supervised=8)


@pytest.fixture(scope="module")
def step():
    """(batch, metrics): a and c share a row, b has one, and one is empty."""
    batch = make_step_batch(EXAMPLES, [[[2, 0], [1], []]], 12, LAYOUT)
    sums = SegmentSums(
        loss=np.array([[[6.0, 10.0], [5.0, 0.0], [0.0, 0.0]]], np.float32),
        weight=np.array([[[3.0, 16.0], [2.0, 0.0], [0.0, 0.0]]], np.float32),
        tokens=np.array([[[3.0, 4.0], [2.0, 0.0], [0.0, 0.0]]], np.float32),
    )
    scalars = (np.float32(x) for x in (2.5, 0.5, 0.25, 15))
    return batch, Metrics(*scalars, sums)


@pytest.fixture(scope="module")
def line(step):
    batch, metrics = step
    work = Workload(CONFIG, LoraConfig(rank=2), peak=1e6)
    return make_log_line(
        3, jax.device_put(metrics), batch, EXAMPLES, work, learning_rate=1e-3, seconds=0.5
    )


def test_losses_by_group(line):
    assert line.loss_by_severity == {"extreme": 2.5, "minor": 2.5}
    assert line.loss_by_source == {"distill": 2.0, "repair": 2.5}
    assert (line.loss, line.grad_norm, line.update_norm) == (2.5, 0.5, 0.25)


def test_weights_are_those_that_the_device_saw(line):
    assert line.weight_mass == 21.0
    assert line.effective_examples == pytest.approx((4 + 1 + 1) ** 2 / (16 + 1 + 1))
    assert line.examples == 3


def test_counts_and_speed(line, step):
    counts = count_step(step[0])
    assert counts == Counts(36, 15, 4 + 2 + 3, 21 + 10 + 15)
    assert (line.padded_tokens, line.tokens, line.supervised_tokens) == counts[:3]
    assert line.flops == train_flops(CONFIG, LoraConfig(rank=2), counts)
    speed = line.speed
    assert speed.seconds == 0.5
    assert speed.supervised_tokens_per_second == 18
    assert speed.real_tokens_per_second == 30
    assert speed.padded_tokens_per_second == 72
    assert speed.flops_per_second == 2 * line.flops
    assert speed.utilisation == pytest.approx(2 * line.flops / 1e6, abs=1e-4)


def test_no_utilisation_where_the_peak_is_unknown(step):
    work = Workload(CONFIG, LoraConfig(), peak=None)
    batch, metrics = step
    found = make_log_line(1, metrics, batch, EXAMPLES, work, learning_rate=0.0, seconds=1.0)
    assert found.speed.utilisation is None
