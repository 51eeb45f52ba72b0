"""The frozen base in 8 or 4 bits, as `qwix.QArray` leaves (QLoRA, Dettmers et al. 2023).

The seven projection matrices of each layer are quantised; embedding, norms, biases and head, a
small part of a large model, keep their type. Of a matrix [in, out]:

    scheme   values           scale                    one scale for             bits a weight
    int8     int8  [in, out]  float32  [1, out]        an output feature         8 + 32/in
    nf4      uint4 [in, out]  bfloat16 [in/64, out]    64 inputs of an output    4.25

nf4's values are indices into `NF4`; its tiles are shorter where 64 does not divide `in`. A layer's
matrix is made dense for each product (`model.dense`) and never stored: XLA on a TPU does this
inside the product.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import qwix
from jaxtyping import Array, Float, PyTree
from qwix import QArray

from dart_jax.model.config import LORA_TARGETS
from dart_jax.model.placing import Transform

SCHEMES = ("none", "int8", "nf4")
TILE = 64
# Quantiles of a normal distribution, scaled to [-1, 1] with an exact 0 (QLoRA, appendix E).
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

Weight = Array | QArray
"""A matrix as it is stored: plain, or quantised."""


def quantize_matrix(weight: Float[Array, "*layers in out"], scheme: str) -> QArray:
    """Quantise a projection matrix, or a stack of them, to `int8` or `nf4`.

    A weight's error is at most 1/255 of the largest magnitude under its scale for int8, and
    15.6 % of it for nf4 (half the widest gap of `NF4`, and the rounding of the scale).

    Args:
        weight: Any float type; quantised from its float32 values.

    Raises:
        ValueError: An unknown scheme, `none` included.
    """
    if scheme not in SCHEMES[1:]:
        raise ValueError(f"model.quantize: {scheme!r}; choose from {', '.join(SCHEMES)}")
    *layers, rows, columns = range(weight.ndim)
    scaled_axes, wide = (*layers, columns), weight.astype(jnp.float32)
    if scheme == "int8":
        return qwix.quantize(wide, jnp.dtype("int8"), channelwise_axes=scaled_axes)

    tiles = {rows: math.gcd(TILE, weight.shape[rows])}
    return qwix.quantize(
        wide, "nf4", channelwise_axes=scaled_axes, tiled_axes=tiles, scale_dtype=jnp.bfloat16
    )


def dequantize(weight: Weight, dtype: Any) -> Float[Array, "*layers in out"]:
    """Compute the dense matrix of a stored weight; a plain one is returned as it is.

    The result is that of `qwix.dequantize` in float32, rounded once to `dtype`. qwix looks nf4 up
    by a gather over the flattened matrix: on a TPU a gigabyte of temporaries for each of
    Llama-3-8B's larger matrices, and on a mesh an all-gather. Here the value is selected by the
    code's bits, which is elementwise.
    """
    if not isinstance(weight, QArray):
        return weight
    is_nf4 = weight.qtype == "nf4"
    values = _nf4_values(weight.qvalue) if is_nf4 else weight.qvalue.astype(jnp.float32)

    *layers, rows, columns = values.shape
    tiles = weight.scale.shape[-2]
    tiled = values.reshape(*layers, tiles, rows // tiles, columns)
    scaled = tiled * weight.scale.astype(jnp.float32)[..., None, :]
    return scaled.reshape(values.shape).astype(dtype)


def _nf4_values(codes: Array) -> Array:
    """Look codes up in `NF4`: each bit, from the lowest, halves the values that are possible."""
    codes = codes.astype(jnp.int32)
    values = [jnp.float32(value) for value in NF4]
    for bit in range(4):
        is_set = (codes >> bit) & 1 == 1
        values = [
            jnp.where(is_set, high, low)
            for low, high in zip(values[::2], values[1::2], strict=True)
        ]
    return values[0]


def load_transform(scheme: str) -> Transform | None:
    """Make the function by which `weights.load_params` quantises each weight; None for `none`.

    Only one matrix at a time exists unquantised.
    """
    return None if scheme == "none" else partial(_quantize_projection, scheme=scheme)


def _quantize_projection(name: str, weight: Array, scheme: str) -> Weight:
    return quantize_matrix(weight, scheme) if name in LORA_TARGETS else weight


def quantize_params(base_params: PyTree, scheme: str) -> PyTree:
    """Quantise the projections of base weights (`llama.forward`); `none` changes nothing."""
    if scheme == "none":
        return base_params
    layers = base_params["layers"]
    return {
        **base_params,
        "layers": {name: _quantize_projection(name, layers[name], scheme) for name in layers},
    }


def stored_bytes(tree: PyTree) -> int:
    """Count the bytes of arrays (or their shapes) on a device; a 4-bit value takes half a byte."""
    leaves = jax.tree.leaves(tree)
    return sum(leaf.size * jax.dtypes.itemsize_bits(leaf.dtype) for leaf in leaves) // 8
