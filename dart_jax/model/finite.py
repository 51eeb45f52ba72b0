"""A check for infinities and NaNs that is as fast as reading the array."""

import numpy as np


def all_finite(array: np.ndarray) -> bool:
    """Tell whether every number of a float32, float16 or bfloat16 array is finite.

    Infinities and NaNs have all exponent bits set, so that they are the largest integers of
    either sign bit. `numpy.isfinite` gives the same answer, for bfloat16 a tenth as fast.

        bfloat16   positive 0x7F80 .. 0x7FFF: the largest as int16
                   negative 0xFF80 .. 0xFFFF: the largest as uint16
    """
    # numpy has no maximum of an empty array.
    if array.size == 0:
        return True
    signed, unsigned = np.dtype(f"i{array.itemsize}"), np.dtype(f"u{array.itemsize}")
    infinities = np.array([np.inf, -np.inf]).astype(array.dtype).view(unsigned)
    positive, negative = int(infinities[0]), int(infinities[1])
    return int(array.view(signed).max()) < positive and int(array.view(unsigned).max()) < negative
