"""The memory that training and decoding take of one device, by formula: nothing is compiled.

What is stored (weights, adapters, Adam's moments, the cache of keys and values) is counted
exactly. What a step works with is modelled as XLA schedules it: the activations that the backward
pass starts from, and at its busiest moment one layer (or one chunk of logits) beside them. Its
constants were chosen by the programs of configs/results/compiled.json; tests/pipeline/
test_footprint.py says how close it is to them. On a GPU it was not compared with anything.
Attention is taken to be a kernel that writes no scores (splash, cuDNN); on a CPU they are added.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from dart_jax.model.architecture import LlamaConfig, projection_shapes
from dart_jax.model.config import LoraConfig, ModelConfig
from dart_jax.sft.config import SftConfig

GIB = 2**30

_FLOAT32 = 4
# Weights that share a scale in nf4, and the bytes of that scale; int8 has a float32 for a column.
_NF4_TILE, _NF4_SCALE = 64, 2
# Arrays of a layer that are alive at once while it runs backward: as wide as the feed-forward, as
# the model, and as queries, keys and values together. So libtpu 0.0.42 has it, from one row a chip
# to eleven.
_WIDE, _NARROW, _HEADS = 17, 8, 2
# Arrays of float32 scores, or logits, that are alive at once: themselves, exponents, gradients.
_SOFTMAX = 3


@dataclass(frozen=True)
class Devices:
    """The mesh, and what decides the size of numbers on its devices.

    Attributes:
        data, fsdp, tensor: Sizes of the mesh's axes.
        is_cpu: Activations are float32 on a CPU, and attention writes its scores.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    is_cpu: bool = False

    @property
    def shards(self) -> int:
        """Parts that each weight is stored in."""
        return self.fsdp * self.tensor

    @property
    def data_parallel(self) -> int:
        """Devices over which the rows of a batch are split."""
        return self.data * self.fsdp

    def dtype_bytes(self, model: ModelConfig) -> int:
        """Bytes of a weight that is not quantised."""
        wide = "float32" if self.is_cpu else "bfloat16"
        return _FLOAT32 if (wide if model.dtype == "auto" else model.dtype) == "float32" else 2


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device.

    Attributes:
        base: Frozen weights.
        adapters: Adapters, and in training their moments and gradients.
        cache: Keys and values, in decoding.
        activations: Kept for the backward pass, in training.
        working: The busiest moment beside them.
    """

    base: float
    adapters: float
    cache: float
    activations: float
    working: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(dataclasses.astuple(self))

    @property
    def read_in_a_step(self) -> float:
        """Bytes that a decode step reads once: weights and cache."""
        return self.base + self.adapters + self.cache

    def __str__(self) -> str:
        parts = [f"{getattr(self, name) / GIB:.2f} {name}" for name in _names(self)]
        return f"{self.total / GIB:.2f} GiB a device ({' + '.join(parts)})"


def _names(footprint: Footprint) -> list[str]:
    names = [field.name for field in dataclasses.fields(footprint)]
    return [name for name in names if getattr(footprint, name)]


def batch_shape(
    sft: SftConfig, devices: int, rows: int | None = None, length: int | None = None
) -> tuple[int, int, int]:
    """Count the micro-batches, rows and tokens [A, B, T] of a step, each example at its longest.

    Args:
        devices: Over how many the rows are split.
        rows, length: Instead of what the settings come to.

    Raises:
        ValueError: The rows are no multiple of the devices.
    """
    packed = sft.packing != "none"
    most = sft.micro_batch_tokens or math.inf
    length = length or min(sft.row_length if packed else sft.max_length, most)
    # First-fit leaves fewer than this in one row at most: there was room for the next example.
    in_a_row = max(1, length // sft.max_length) if packed else 1

    for micro_batches in sft.micro_batch_counts:
        needed = -(-sft.batch_size // micro_batches // in_a_row)
        found = rows or -(-needed // devices) * devices
        if rows or found // devices * length <= most:
            break
    if found % devices:
        raise ValueError(f"--rows: {rows} over mesh data x fsdp = {devices}; give a multiple")
    return micro_batches, found, length


def base_bytes(config: LlamaConfig, model: ModelConfig, dtype_bytes: int) -> float:
    """Count the bytes of the frozen weights, over all devices that hold a copy together."""
    tables = 1 if config.tied_head else 2
    embedding = tables * config.vocab_size * config.embed_dim * dtype_bytes
    final_norm = config.embed_dim * _FLOAT32
    a_layer = _layer_bytes(config, model, dtype_bytes) + _vector_bytes(config)
    return config.num_layers * a_layer + embedding + final_norm


def _layer_bytes(config: LlamaConfig, model: ModelConfig, dtype_bytes: int) -> float:
    """Count the bytes of one layer's seven projections as they are stored."""
    total = 0.0
    for fan_in, fan_out in projection_shapes(config).values():
        each = float(dtype_bytes)
        if model.quantize == "int8":
            each = 1 + _FLOAT32 / fan_in
        elif model.quantize == "nf4":
            each = 0.5 + _NF4_SCALE / math.gcd(_NF4_TILE, fan_in)
        total += fan_in * fan_out * each
    return total


def _vector_bytes(config: LlamaConfig) -> int:
    """Count the bytes of one layer's norms and biases."""
    numbers = 2 * config.embed_dim
    if config.qkv_bias:
        numbers += (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    if config.qk_norm:
        numbers += 2 * config.head_dim
    return _FLOAT32 * numbers


def adapter_size(config: LlamaConfig, lora: LoraConfig) -> int:
    """Count the numbers of an adapter."""
    shapes = projection_shapes(config)
    return config.num_layers * lora.rank * sum(sum(shapes[name]) for name in lora.targets)


def train_footprint(
    config: LlamaConfig,
    model: ModelConfig,
    lora: LoraConfig,
    sft: SftConfig,
    devices: Devices,
    shape: tuple[int, int, int] | None = None,
) -> Footprint:
    """Count what a training step takes.

    Args:
        shape: Micro-batches, rows over all devices, and tokens of a row; `batch_shape` without it.
    """
    _, rows, length = shape or batch_shape(sft, devices.data_parallel)
    weight = devices.dtype_bytes(model)
    activation = _FLOAT32 if devices.is_cpu else weight
    tokens = rows * length / devices.data_parallel

    adapter = _FLOAT32 * adapter_size(config, lora) / devices.shards
    kept = tokens * _kept(config, lora, sft.remat, activation)
    # What this layer kept is among its arrays.
    backward = _layer_at_work(config, model, devices, weight, activation, tokens) - kept
    if devices.is_cpu:
        keys = min(length, sft.max_length)
        backward += _SOFTMAX * _FLOAT32 * tokens * keys * config.num_heads / devices.tensor
    head = _head_at_work(config, sft, devices, rows, activation, tokens)
    head += _turned_embedding(config, devices, weight)
    return Footprint(
        base=base_bytes(config, model, weight) / devices.shards,
        # Themselves and two moments; the sum of their gradients, and those of a micro-batch.
        adapters=5 * adapter,
        cache=0,
        activations=config.num_layers * kept,
        working=max(backward, head),
    )


def _kept(config: LlamaConfig, lora: LoraConfig, remat: str, activation: int) -> float:
    """Count the bytes of a token that the forward pass of one layer leaves for the backward."""
    D, F = config.embed_dim, config.ffn_dim
    q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    if remat == "layer":
        return activation * D

    # What dropout drops of the four inputs of projections: a bit each (`lora.dropout`).
    noise = (2 * D + q_dim + F) / 8 if lora.dropout > 0 else 0
    log_total = _FLOAT32 * config.num_heads
    if remat == "projections":
        # The layer's input, the products but for down's, which nothing goes back to, and attention.
        products = D + (q_dim + 2 * kv_dim) + D + 2 * F
        return activation * (products + q_dim) + log_total + noise

    # Besides those: normed and dropped inputs, rotated heads, and what SwiGLU is made of.
    every = 6 * D + 4 * q_dim + 4 * kv_dim + 6 * F
    float32 = 2 * D
    if config.qk_norm:  # as the layer's two norms: what comes in, in float32, and what goes out
        every += q_dim + kv_dim
        float32 += q_dim + kv_dim
    return activation * every + log_total + noise + _FLOAT32 * float32


def _layer_at_work(
    config: LlamaConfig,
    model: ModelConfig,
    devices: Devices,
    weight: int,
    activation: int,
    tokens: float,
) -> float:
    """Count the bytes of one layer in the backward pass: its arrays and its weights as used."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    split = _WIDE * config.ffn_dim + _HEADS * heads
    arrays = activation * tokens * (split / devices.tensor + _NARROW * config.embed_dim)

    gathered = 0.0
    if devices.fsdp > 1:
        gathered = _layer_bytes(config, model, weight) / devices.tensor
    dense = 0.0
    if model.quantize != "none":  # gate's matrix and up's
        dense = 2 * weight * config.embed_dim * config.ffn_dim / devices.tensor
    return arrays + gathered + dense


def _head_at_work(
    config: LlamaConfig,
    sft: SftConfig,
    devices: Devices,
    rows: int,
    activation: int,
    tokens: float,
) -> float:
    """Count the bytes of a chunk of logits, with the hidden states and their gradient."""
    chunk = -(-sft.loss_chunk * devices.data_parallel // rows)
    positions = rows / devices.data * chunk
    logits = _SOFTMAX * _FLOAT32 * positions * config.vocab_size / devices.shards
    return logits + 2 * activation * tokens * config.embed_dim


def _turned_embedding(config: LlamaConfig, devices: Devices, weight: int) -> float:
    """Count the bytes of the embedding's transposed copy, which is the head where it has none."""
    if not config.tied_head:
        return 0.0
    return weight * config.vocab_size * config.embed_dim / devices.shards


def decode_footprint(
    config: LlamaConfig,
    model: ModelConfig,
    lora: LoraConfig,
    devices: Devices,
    slots: int,
    positions: int,
    adapters: int,
) -> Footprint:
    """Count what a block of decode steps takes.

    Args:
        slots: Rows that are decoded together, over all devices.
        positions: Tokens of a row, prompt and answer.
        adapters: Models beside M0.
    """
    weight = devices.dtype_bytes(model)
    number = _FLOAT32 if devices.is_cpu else weight
    a_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * number
    rows = slots / devices.data_parallel
    base = base_bytes(config, model, weight)
    if devices.is_cpu:  # `Model.decode_params`: layers are unstacked into a second copy
        base += config.num_layers * _layer_bytes(config, model, weight)

    return Footprint(
        base=base / devices.shards,
        adapters=weight * adapters * adapter_size(config, lora) / devices.shards,
        cache=rows * positions * a_token / devices.tensor,
        activations=0,
        working=_SOFTMAX * _FLOAT32 * rows * config.vocab_size / devices.tensor,
    )
