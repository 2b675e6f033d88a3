"""Gaussian noise from secret randomness."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from secfpp.seeding import Entropy


def noise(sd: float, shape: tuple[int, ...], entropy: Entropy) -> np.ndarray:
    """Independent Gaussian noise of standard deviation `sd`, float64 of `shape`.

    By the inverse of the distribution function from 52 random bits each. It is not exact: floats are no real numbers
    (Mironov, CCS 2012). Round what it is added to, or use `secfpp.privacy.skellam`, where that matters.
    """
    words = np.frombuffer(entropy.random_bytes(8 * int(np.prod(shape))), np.uint64).reshape(shape)
    return np.asarray(sd * ndtri(((words >> np.uint64(12)) + 0.5) * 2.0**-52))
