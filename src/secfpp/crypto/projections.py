"""Random projections of vectors of integers: their coefficients, and how likely a projection is short.

See `secfpp.crypto.bounds` for what they are for.
"""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import sha256

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream

_C = 10
"""Largest coefficient of a projection."""
VARIANCE = _C * (_C + 1) / 3
_SKEW = (_C * (_C + 1)) ** 2 / 2 / (2 * _C + 1) / VARIANCE**1.5
"""Third absolute moment of a coefficient, over its standard deviation cubed."""


def coefficients_of(seed: bytes, count: int, size: int) -> np.ndarray:
    """What vectors are multiplied with, float64 [count, size]: whole numbers, uniform in -C..C to within 2^-59."""
    return _coefficients(seed, count, size).astype(np.float64)


@lru_cache(maxsize=16)  # so many groups average at the same time; a byte for each coefficient
def _coefficients(seed: bytes, count: int, size: int) -> np.ndarray:
    stream = Stream(sha256(b"secfpp/bound/project/1\0" + seed).digest())
    return (stream.words((count, size)) % np.uint64(2 * _C + 1)).astype(np.int8) - np.int8(_C)


def passing(share: float) -> float:
    """With which probability a projection lies in an interval that is `share` of the length that must be found."""
    normal, error = share / math.sqrt(2 * math.pi * VARIANCE), 1.12 * _SKEW
    values = 2 * _C + 1
    gap = 1 / values - normal
    equal = (gap + math.sqrt(gap * gap + 4 * share / values * error)) / 2  # 1.12 k t where both cases are equal
    return max(normal + equal, (_C + 1) / values)


def small_sums(weights: Elements, coefficients: np.ndarray) -> Elements:
    """Sums over rows of `weights` [m] times `coefficients` [m, n], exact in float64 by limbs of 21 bits [n]."""
    limbs = np.stack([weights >> np.uint64(shift) & np.uint64((1 << 21) - 1) for shift in (0, 21, 42)])
    low, middle, high = PrimeField.lift((limbs.astype(np.float64) @ coefficients).astype(np.int64))
    return PrimeField.add(low, PrimeField.add(PrimeField.turn(middle, 21), PrimeField.turn(high, 42)))
