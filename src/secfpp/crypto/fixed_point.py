"""Real numbers as field elements, with a range that is proven before anything is encoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from secfpp.crypto.field import PrimeField
from secfpp.errors import FieldRangeError


@dataclass(frozen=True)
class FixedPoint:
    """Reals of magnitude up to `bound`, rounded to multiples of 2^-bits (halves to even).

    A sum of encodings with integer weights is exact as long as the weights add up to at most `capacity`: an
    encoded magnitude is at most `largest`, rounding being monotonic, hence the sum's is at most ``capacity *
    largest <= PrimeField.half``, and it does not wrap. Its decoding differs from the weighted mean of the
    numbers by at most half a `step`, apart from the rounding of float64 itself.

    Args:
        bound: largest magnitude, positive.
        bits: fractional bits, 0 to 52.

    Raises:
        FieldRangeError: settings under which no number fits, or only 0.
    """

    bound: float
    bits: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise FieldRangeError(f"bound {self.bound}: a positive finite number is needed")
        if not 0 <= self.bits <= 52:
            raise FieldRangeError(f"{self.bits} fractional bits: 0 to 52 are possible")
        if self.largest < 1:
            raise FieldRangeError(
                f"numbers up to {self.bound} all round to 0 with {self.bits} fractional bits: use more"
            )
        if self.capacity < 1:
            raise FieldRangeError(
                f"numbers up to {self.bound} with {self.bits} fractional bits do not fit the field of 61 bits: "
                "use fewer bits or a smaller bound"
            )

    @cached_property
    def largest(self) -> int:
        """Largest encoded magnitude."""
        return round(Fraction(self.bound) * (1 << self.bits))

    @cached_property
    def capacity(self) -> int:
        """Largest total weight of a sum that cannot wrap."""
        return PrimeField.half // self.largest

    def most_squares(self, size: int) -> int:
        """Largest sum of squares of `size` encoded numbers, of weight 1, whose L2 norm was at most `bound`."""
        return (self.largest + math.isqrt(size) + 1) ** 2

    @property
    def step(self) -> float:
        """Distance of neighbouring encodable numbers; one rounding moves a number by at most half of it."""
        return 2.0**-self.bits

    def require_capacity(self, weight: int) -> None:
        """Refuse a sum of total `weight` that might wrap.

        Raises:
            FieldRangeError: `weight` is above `capacity`.
        """
        if weight > self.capacity:
            raise FieldRangeError(
                f"total weight {weight}: sums of numbers up to {self.bound} with {self.bits} fractional bits hold at "
                f"most {self.capacity}; use smaller weights, fewer bits or a smaller bound"
            )

    def encode(self, values: np.ndarray, weight: int = 1) -> np.ndarray:
        """`weight` times the rounded `values`, as field elements of the same shape.

        Raises:
            FieldRangeError: a value that is not finite or beyond `bound`, or a weight not in 1..capacity.
        """
        if weight < 1:
            raise FieldRangeError(f"weight {weight}: weights are integers from 1")
        self.require_capacity(weight)
        values = np.asarray(values, dtype=np.float64)
        bad = ~(np.abs(values) <= self.bound)
        if bad.any():
            raise FieldRangeError(f"value {values[bad][0]} : finite ones up to {self.bound} are encodable, clip first")
        return PrimeField.lift(np.rint(values * 2.0**self.bits).astype(np.int64) * weight)

    def decode(self, total: np.ndarray, weight: int = 1) -> np.ndarray:
        """The mean, float64, of what was encoded into the sum `total` with weights adding up to `weight`."""
        return PrimeField.lower(total) / (float(weight) * 2.0**self.bits)
