"""Gaussian noise is of the deviation and the shape that it should be of, and never the same twice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from secfpp.privacy.gaussian import noise
from secfpp.seeding import SystemEntropy


class Fixed:
    """Bytes that are all the same."""

    def __init__(self, byte: int) -> None:
        self.byte = byte

    def random_bytes(self, count: int) -> bytes:
        return bytes([self.byte]) * count


def test_it_is_normal() -> None:
    found = noise(2.5, (200, 100), SystemEntropy())
    assert found.shape == (200, 100) and found.dtype == np.float64
    assert kstest(found.ravel() / 2.5, "norm").pvalue > 1e-6
    assert not np.array_equal(found, noise(2.5, (200, 100), SystemEntropy()))


@pytest.mark.parametrize(("byte", "sign"), [(0, -1), (255, 1)])
def test_the_farthest_it_goes_is_finite(byte: int, sign: int) -> None:
    found = noise(1.0, (3,), Fixed(byte))
    assert np.isfinite(found).all() and (sign * found > 8).all()


def test_nothing_is_drawn_of_an_empty_shape() -> None:
    assert noise(1.0, (0, 4), SystemEntropy()).shape == (0, 4)
