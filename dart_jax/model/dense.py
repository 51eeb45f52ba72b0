"""Matrix products with operands of a chosen type and float32 sums, in the backward pass, too.

Products of two bfloat16 matrices summed in float32 are the fast ones on every device: on a CPU with
AVX512_BF16, twice as fast as mixed operands or as bfloat16 in and out (measured: 440 against 210
GFLOP/s on two cores; with AMX, under jax 0.10.2, 900 to 1,600 against 150 to 300). The derivative
that jax makes of a bfloat16 product has mixed operands, so that it is defined here instead.
Activations between the products may have another type: a CPU has no other bfloat16 arithmetic.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from qwix import QArray

from dart_jax.model.quantize import Weight, dequantize

_ROWS_COLUMNS = (((1,), (0,)), ((), ()))
_ROWS_ROWS = (((1,), (1,)), ((), ()))


def _flat(x: Array) -> Array:
    """Flatten the leading axes: a product that contracts two axes would transpose them first."""
    return x.reshape(-1, x.shape[-1])


def _product(a: Array, b: Array, contract: tuple, dtype: Any) -> Array:
    a, b = a.astype(dtype), b.astype(dtype)
    return jax.lax.dot_general(a, b, contract, preferred_element_type=jnp.float32)


def columns_product(
    a: Float[Array, "*b n i"], b: Float[Array, "*b n o"], dtype: Any
) -> Float[Array, "*b i o"]:
    """Product a^T b with float32 sums.

    A CPU's fast products do not contract the first axis of their left side: XLA would convert both
    sides to float32 and repack them (measured: 0.7 against 0.2 ms for 1024 x 16 and 1024 x 1536).
    So the narrower side is transposed first.
    """
    a, b = a.astype(dtype), b.astype(dtype)
    return jax.lax.platform_dependent(a, b, cpu=_columns_product_on_cpu, default=_columns_product)


def _columns_product(a: Array, b: Array) -> Array:
    return jnp.einsum("...ni,...no->...io", a, b, preferred_element_type=jnp.float32)


def _columns_product_on_cpu(a: Array, b: Array) -> Array:
    sums = {"preferred_element_type": jnp.float32}
    if a.shape[-1] <= b.shape[-1]:
        return jnp.matmul(_turned_by_product(a), b, **sums)
    return _turned_by_product(jnp.matmul(_turned_by_product(b), a, **sums))


def transposed(x: Float[Array, "*b n r"]) -> Float[Array, "*b r n"]:
    """Transpose the last two axes, on a CPU by a product with the identity, which is exact.

    There, XLA would take a plain transposition into the product that uses it, or that it is made
    by.
    """
    return jax.lax.platform_dependent(
        x, cpu=_turned_by_product, default=lambda x: x.swapaxes(-1, -2)
    )


def _turned_by_product(x: Array) -> Array:
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    turned = jnp.einsum("rs,...ns->...rn", identity, x, preferred_element_type=jnp.float32)
    return turned.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def frozen_matmul(
    x: Float[Array, "*n i"], weight: Float[Array, "i o"] | QArray, dtype: Any
) -> Float[Array, "*n o"]:
    """Product x W with a frozen weight, in x's type; differentiable in x only.

    The backward pass keeps nothing but W as it is stored. A quantised W is made dense for each
    product, forward and backward, and not kept.

    Args:
        dtype: Type of the product's operands.
    """
    product = _product(_flat(x), dequantize(weight, dtype), _ROWS_COLUMNS, dtype)
    return product.astype(x.dtype).reshape(*x.shape[:-1], -1)


def _frozen_forward(x: Array, weight: Weight, dtype: Any) -> tuple[Array, Weight]:
    return frozen_matmul(x, weight, dtype), weight


def _frozen_backward(dtype: Any, weight: Weight, grad: Array) -> tuple[Array, None]:
    back = _product(_flat(grad), dequantize(weight, dtype), _ROWS_ROWS, dtype)
    return back.astype(grad.dtype).reshape(*grad.shape[:-1], -1), None


frozen_matmul.defvjp(_frozen_forward, _frozen_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def trained_matmul(
    x: Float[Array, "*n i"], weight: Float[Array, "i o"], dtype: Any
) -> Float[Array, "*n o"]:
    """Product x W with a float32 weight, in x's type; the weight's gradient is float32.

    Args:
        dtype: Type of the product's operands.
    """
    product = _product(_flat(x), weight, _ROWS_COLUMNS, dtype)
    return product.astype(x.dtype).reshape(*x.shape[:-1], -1)


def _trained_forward(x: Array, weight: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    return trained_matmul(x, weight, dtype), (x, weight)


def _trained_backward(
    dtype: Any, residuals: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
    x, weight = residuals
    flat = _flat(grad)
    back = _product(flat, weight, _ROWS_ROWS, dtype).astype(x.dtype)
    grad_weight = columns_product(_flat(x), flat, dtype)
    return back.reshape(x.shape), grad_weight.astype(weight.dtype)


trained_matmul.defvjp(_trained_forward, _trained_backward)
