"""Floating-point operations that a training step needs, and the peak of known devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dart_jax.model.architecture import LlamaConfig, projection_shapes
from dart_jax.model.config import LoraConfig

# Dense bfloat16 peak of one device in FLOP/s, by the start of its name in lower case; of two
# names that fit, the longer counts. From the makers' data sheets.
PEAK_BF16 = {
    "tpu v4": 275e12,
    "tpu v4 lite": 138e12,
    "tpu v5": 459e12,
    "tpu v5p": 459e12,
    "tpu v5 lite": 197e12,
    "tpu v5e": 197e12,
    "tpu v6 lite": 918e12,
    "tpu v6e": 918e12,
    "nvidia a100": 312e12,
    "nvidia h100": 989e12,
    "nvidia h100 pcie": 756e12,
    "nvidia h100 nvl": 835e12,
    "nvidia h200": 989e12,
    "nvidia l4": 121e12,
    "nvidia l40": 181e12,
    "nvidia l40s": 362e12,
}

# Bytes a second between one device and its memory, from the same sheets; names as above.
BANDWIDTH = {
    "tpu v4": 1228e9,
    "tpu v5": 2765e9,
    "tpu v5p": 2765e9,
    "tpu v5 lite": 819e9,
    "tpu v5e": 819e9,
    "tpu v6 lite": 1640e9,
    "tpu v6e": 1640e9,
    "nvidia a100": 1555e9,
    "nvidia h100": 3350e9,
    "nvidia h100 pcie": 2000e9,
    "nvidia h100 nvl": 3900e9,
    "nvidia h200": 4800e9,
    "nvidia l4": 300e9,
    "nvidia l40": 864e9,
    "nvidia l40s": 864e9,
}


class Counts(NamedTuple):
    """Counts of what one step's rows hold.

    Attributes:
        padded_tokens: Positions of all rows, padding included.
        tokens: Positions that hold a token; a shared prefix counts once a row.
        supervised_tokens: Targets with a loss.
        attended_pairs: (query, key) pairs that the mask lets through, per layer and head.
    """

    padded_tokens: int
    tokens: int
    supervised_tokens: int
    attended_pairs: int


def count_attended_pairs(segment_ids: Int[np.ndarray, "... T"]) -> int:
    """Count the (query, key) pairs under the causal mask of packed rows.

    A segment of n tokens has n (n + 1) / 2 pairs of its own and n P with the row's shared prefix
    of P tokens (segment -1), whose own are P (P + 1) / 2:

        segment_ids  -1 -1  1  1  1  2  0     2*3/2 + (3*4/2 + 3*2) + (1*2/2 + 1*2) = 18
    """
    pairs = 0
    for row in segment_ids.reshape(-1, segment_ids.shape[-1]):
        ids, lengths = np.unique(row[row != 0], return_counts=True)
        prefix = int(lengths[ids == -1].sum())
        pairs += int((lengths * (lengths + 1) // 2).sum())
        pairs += prefix * int(lengths[ids > 0].sum())
    return pairs


def train_flops(config: LlamaConfig, lora: LoraConfig, counts: Counts) -> int:
    """Count the floating-point operations that a training step with a frozen base needs.

    A product of [m, k] and [k, n] counts 2 m k n. Padding and recomputation are not needed, and
    do not count; the frozen base has no weight gradients. With L layers, N query heads of H
    features, adapters of rank R on projections (in, out):

        base projections   4 sum(in out) L        a token: 2 forward, 2 back through activations
        adapters           6 sum R (in + out) L   a token: forward, and both operands' gradients
        attention          12 N H L               a pair: scores and values forward, four products
                                                  backward (gradients of queries, keys, scores,
                                                  values)
        head               4 D V                  a supervised token

    Norms, rotations, softmax and the optimizer are left out: no matrix products. The first layer
    counts as the others, although nothing below its first products needs a gradient.
    """
    shapes = projection_shapes(config)
    base = sum(fan_in * fan_out for fan_in, fan_out in shapes.values())
    adapters = sum(lora.rank * sum(shapes[target]) for target in lora.targets)
    per_layer = counts.tokens * (4 * base + 6 * adapters)
    per_layer += 12 * config.num_heads * config.head_dim * counts.attended_pairs
    head = 4 * config.embed_dim * config.vocab_size * counts.supervised_tokens
    return config.num_layers * per_layer + head


def peak_flops(device_kind: str) -> float | None:
    """Look up the bfloat16 peak of one device in FLOP/s; None where unknown (every CPU)."""
    return _look_up(PEAK_BF16, device_kind)


def bandwidth(device_kind: str) -> float | None:
    """Look up the bytes a second that one device reads from its memory; None where unknown."""
    return _look_up(BANDWIDTH, device_kind)


def _look_up(figures: Mapping[str, float], device_kind: str) -> float | None:
    kind = device_kind.lower()
    fitting = [name for name in figures if kind.startswith(name)]
    return figures[max(fitting, key=len)] if fitting else None
