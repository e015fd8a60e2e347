"""float16 to float32, several times as quick as `astype`: NumPy's wheels convert number by number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIGN_EXPONENT_FRACTION = np.int32(-0x70002000)
"""The bits of float32 that a float16's land in when it is shifted by 13: sign, low exponent, fraction (0x8FFFE000)."""
_EXPONENT_BIAS = np.float32(2.0**112)
"""The exponent's bias is 127 in float32 and 15 in float16."""


def floats_of(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """float32 of finite float16, of the same shape; exact, subnormal numbers and -0 included."""
    bits = np.ascontiguousarray(half).view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_EXPONENT_FRACTION
    numbers = bits.view(np.float32)
    numbers *= _EXPONENT_BIAS
    return numbers
