"""The fast test for infinities and NaNs agrees with numpy's on every bit pattern."""

import ml_dtypes
import numpy as np
import pytest

from dart_jax.model.finite import all_finite


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_16_bit_number(dtype):
    numbers = np.arange(2**16, dtype=np.uint16).view(dtype)
    found = np.array([all_finite(numbers[i : i + 1]) for i in range(len(numbers))])
    np.testing.assert_array_equal(found, np.isfinite(numbers.astype(np.float32)))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, -np.nan])
def test_one_bad_number_among_many(bad):
    largest = np.finfo(np.float32).max
    numbers = np.linspace(-largest / 2, largest / 2, 999, dtype=np.float32).reshape(27, 37)
    numbers[0, :2] = largest, -largest
    assert all_finite(numbers) and all_finite(numbers.T) and all_finite(numbers[:0])
    numbers[13, 5] = bad
    assert not all_finite(numbers) and not all_finite(numbers.T) and not all_finite(numbers[13:, 5])
    assert all_finite(numbers[14:])
