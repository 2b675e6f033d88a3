"""From a real descriptor to a short integer one, by public maps only.

A map that is the same for everybody needs no exchange; projections fitted per client (PCA, SVD) would
have no common coordinates.
"""

from __future__ import annotations

import math

import numpy as np

from secfpp.errors import FieldRangeError
from secfpp.seeding import derive


def radius(bits: int) -> int:
    """Largest L2 norm of a descriptor of `bits` bits: 127 for 8."""
    return (1 << (bits - 1)) - 1


def projection(seed: int, dimension: int, reduced: int) -> np.ndarray:
    """A Johnson-Lindenstrauss map of random signs (D. Achlioptas, 2003), float64 [dimension, reduced].

    It keeps squared lengths in expectation. No map is needed, and the identity is given, where `dimension` is
    at most `reduced`.
    """
    if dimension <= reduced:
        return np.eye(dimension)
    signs = derive(seed, "projection").numpy().integers(0, 2, size=(dimension, reduced))
    return (2.0 * signs - 1.0) / math.sqrt(reduced)


def quantise(vector: np.ndarray, scale: float, longest: int) -> np.ndarray:
    """`vector` times `scale`, rounded to integers of L2 norm at most `longest`: int16 [d].

    A vector that is too long is shortened, direction kept, to where no rounding can take it beyond: rounding
    moves it by at most ``sqrt(d) / 2``.

    Raises:
        FieldRangeError: a vector that is not finite, or with too many dimensions for `longest`.
    """
    if not np.isfinite(vector).all():
        raise FieldRangeError("the descriptor is not finite: training diverged, lower the learning rate")
    limit = longest - math.sqrt(vector.size) / 2
    if limit <= 0:
        raise FieldRangeError(f"{vector.size} dimensions do not fit a norm of {longest}: use fewer, or more bits")
    scaled = vector.astype(np.float64) * scale
    rounded = np.rint(scaled)
    if float(rounded @ rounded) > longest**2:
        rounded = np.rint(scaled * (limit / float(np.linalg.norm(scaled))))
    return rounded.astype(np.int16)
