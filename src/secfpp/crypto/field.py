"""The prime field of secure sums: integers modulo p = 2^61 - 1, in numpy ``uint64`` arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from secfpp.errors import FieldRangeError


class PrimeField:
    """The integers modulo the Mersenne prime 2^61 - 1.

    Elements are ``uint64`` in 0..p-1. Signed integers of magnitude up to `half` stand for
    themselves (negative ones for p minus their magnitude), so sums are exact as long as they stay in that range.
    """

    p = (1 << 61) - 1
    half = (p - 1) // 2

    @classmethod
    def lift(cls, integers: np.ndarray) -> np.ndarray:
        """Signed integers (int64) to field elements.

        Raises:
            FieldRangeError: a magnitude above `half`.
        """
        integers = np.asarray(integers, dtype=np.int64)
        worst = max((int(integers.max()), int(integers.min())), key=abs) if integers.size else 0
        if abs(worst) > cls.half:
            raise FieldRangeError(f"integer {worst} does not fit the field: magnitudes up to {cls.half} do")
        return np.where(integers < 0, integers + cls.p, integers).astype(np.uint64)

    @classmethod
    def lower(cls, elements: np.ndarray) -> np.ndarray:
        """Field elements to the signed integers (int64) they stand for; undoes `lift`."""
        integers = cls.checked(elements).astype(np.int64)
        return np.where(integers > cls.half, integers - cls.p, integers)

    @classmethod
    def add(cls, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Sum of elements, elementwise; both operands must be elements."""
        total: np.ndarray = left + right  # below 2^62
        return np.where(total >= cls.p, total - np.uint64(cls.p), total)

    @classmethod
    def sum(cls, summands: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Sum of any number of arrays of elements of one `shape`; zeros if there is none."""
        total = np.zeros(shape, np.uint64)
        for summand in summands:
            total = cls.add(total, cls.checked(summand))
        return total

    @classmethod
    def checked(cls, elements: np.ndarray) -> np.ndarray:
        """`elements`, if they are.

        Raises:
            FieldRangeError: another dtype than uint64, or a value of p or more.
        """
        if elements.dtype != np.uint64:
            raise FieldRangeError(f"field elements have dtype uint64, not {elements.dtype}")
        if elements.size and int(elements.max()) >= cls.p:
            raise FieldRangeError(f"{elements.max()} is no field element: they lie in 0..{cls.p - 1}")
        return elements
