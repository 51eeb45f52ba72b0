"""Products with float32 sums, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dart_jax.model.dense import columns_product, frozen_matmul, trained_matmul


@pytest.fixture(scope="module")
def operands():
    keys = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(keys[0], (2, 3, 64)),
        jax.random.normal(keys[1], (64, 5)),
        jax.random.normal(keys[2], (2, 3, 5)),
    )


def _pull(product, x, weight, grad):
    out, back = jax.vjp(product, x, weight)
    return out, *back(grad.astype(out.dtype))


def _of(product, dtype):
    return lambda x, weight: product(x, weight, jnp.dtype(dtype))


def _norm_error(found, expected):
    return np.linalg.norm(np.float32(found - expected)) / np.linalg.norm(np.float32(expected))


def test_float32_is_the_plain_product(operands):
    expected = _pull(jnp.matmul, *operands)
    for product, grads in ((frozen_matmul, 2), (trained_matmul, 3)):
        for found, wanted in list(
            zip(_pull(_of(product, "float32"), *operands), expected, strict=True)
        )[:grads]:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_frozen_weight_gets_no_gradient(operands):
    assert not _pull(_of(frozen_matmul, "float32"), *operands)[2].any()


def test_bfloat16_rounds_once(operands):
    """The result is within one rounding (2^-8) of the float32 product of the rounded operands."""
    x, weight, grad = operands
    low = x.astype(jnp.bfloat16)
    wide = low.astype(jnp.float32)
    rounded = weight.astype(jnp.bfloat16).astype(jnp.float32)
    low_grad = grad.astype(jnp.bfloat16)
    expected = _pull(jnp.matmul, wide, rounded, low_grad.astype(jnp.float32))
    frozen = _pull(_of(frozen_matmul, "bfloat16"), low, weight.astype(jnp.bfloat16), low_grad)
    trained = _pull(_of(trained_matmul, "bfloat16"), low, weight, low_grad)
    for found in (frozen, trained):
        assert found[0].dtype == found[1].dtype == jnp.bfloat16
        assert _norm_error(found[0], expected[0]) < 2**-8
        assert _norm_error(found[1], expected[1]) < 2**-8
    assert trained[2].dtype == jnp.float32
    assert _norm_error(trained[2], expected[2]) < 1e-5


def test_operands_may_be_narrower_than_what_they_make(operands):
    """float32 in and out, bfloat16 between: the product of the rounded operands, not rounded."""
    x, weight, grad = operands
    wide, rounded, wide_grad = (
        array.astype(jnp.bfloat16).astype(jnp.float32) for array in (x, weight, grad)
    )
    expected = _pull(jnp.matmul, wide, rounded, wide_grad)
    found = _pull(_of(frozen_matmul, "bfloat16"), x, weight.astype(jnp.bfloat16), grad)
    for mine, theirs in zip(found[:2], expected[:2], strict=True):
        assert mine.dtype == jnp.float32
        assert _norm_error(mine, theirs) < 1e-5


@pytest.mark.parametrize("narrow_first", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_columns_product_transposes_exactly(dtype, narrow_first):
    """Either side may be the narrow one; only the operands are rounded."""
    keys = jax.random.split(jax.random.key(1), 2)
    a = jax.random.normal(keys[0], (3, 32, 4)).astype(dtype)
    b = jax.random.normal(keys[1], (3, 32, 48)).astype(dtype)
    if not narrow_first:
        a, b = b, a
    expected = np.einsum("bni,bno->bio", np.float64(a), np.float64(b))
    found = jax.jit(lambda a, b: columns_product(a, b, jnp.dtype(dtype)))(a, b)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
