"""The prime field of everything shared: integers modulo p = 2^61 - 1, in numpy ``uint64`` arrays.

2^61 = 1 modulo p, so reduction is a shift and an addition, and multiplication by a power of two turns the 61 bits of
an element round. Matrix products go through float64 BLAS on limbs of 21 bits: the products of two limbs are below 2^42,
so that sums of up to 682 of them, three limb products to a weight, are exact below 2^53.

All of this is numpy. Where `secfpp.crypto.kernel` is compiled it does the same faster, and this is what it is tested
against.

Nothing here is secret-dependent in its control flow or memory access.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from secfpp.crypto.kernel import compiled, elementwise
from secfpp.errors import FieldRangeError

Elements = np.ndarray
"""uint64, every entry in 0..p-1."""

_P = np.uint64((1 << 61) - 1)
_BITS = 61
_LOW32, _LOW29 = np.uint64(0xFFFFFFFF), np.uint64((1 << 29) - 1)
_S3, _S29, _S32, _S61 = np.uint64(3), np.uint64(29), np.uint64(32), np.uint64(61)
_LIMB, _LIMB_MASK, _INNER = np.uint64(21), np.uint64((1 << 21) - 1), 682
_LARGE = 1 << 24
"""Products of elements in a matrix product from which on BLAS is faster than the kernel."""
_BLOCK = 1 << 14
"""Elements multiplied at a time: the temporaries of a block stay in the processor's cache."""


class PrimeField:
    """The integers modulo the Mersenne prime 2^61 - 1.

    Elements are ``uint64`` in 0..p-1. Signed integers of magnitude up to `half` stand for
    themselves (negative ones for p minus their magnitude), so sums are exact as long as they stay in that range.
    Operands are taken to be elements; `checked` is for what comes from outside.
    """

    p = (1 << _BITS) - 1
    bits = _BITS
    half = (p - 1) // 2

    @classmethod
    def lift(cls, integers: np.ndarray) -> Elements:
        """Signed integers (int64) to field elements.

        Raises:
            FieldRangeError: a magnitude above `half`.
        """
        integers = np.asarray(integers, dtype=np.int64)
        worst = max((int(integers.max()), int(integers.min())), key=abs) if integers.size else 0
        if abs(worst) > cls.half:
            raise FieldRangeError(f"integer {worst} does not fit the field: magnitudes up to {cls.half} do")
        lifted = integers + (integers >> 63 & cls.p)  # the shifted sign is all ones if it is negative
        return np.asarray(lifted).view(np.uint64)

    @classmethod
    def lower(cls, elements: Elements) -> np.ndarray:
        """Field elements to the signed integers (int64) they stand for; undoes `lift`."""
        integers = cls.checked(elements).astype(np.int64)
        lowered = integers - (cls.half - integers >> 63 & cls.p)
        return np.asarray(lowered)

    @classmethod
    def checked(cls, elements: np.ndarray) -> Elements:
        """`elements`, if they are.

        Raises:
            FieldRangeError: another dtype than uint64, or a value of p or more.
        """
        if elements.dtype != np.uint64:
            raise FieldRangeError(f"field elements have dtype uint64, not {elements.dtype}")
        if elements.size and int(elements.max()) >= cls.p:
            raise FieldRangeError(f"{elements.max()} is no field element: they lie in 0..{cls.p - 1}")
        return elements

    @staticmethod
    def add(left: Elements, right: Elements) -> Elements:
        """Sum, elementwise, with broadcasting."""
        if compiled:
            return elementwise(compiled.add, np.asarray(left), np.asarray(right))
        return _once(left + right)

    @staticmethod
    def sub(left: Elements, right: Elements) -> Elements:
        """Difference, elementwise, with broadcasting."""
        if compiled:
            return elementwise(compiled.sub, np.asarray(left), np.asarray(right))
        return _once(left + (_P - right))

    @staticmethod
    def neg(elements: Elements) -> Elements:
        """Additive inverse."""
        return _once(_P - elements)

    @staticmethod
    def mul(left: Elements, right: Elements) -> Elements:
        """Product, elementwise, with broadcasting."""
        left, right = np.asarray(left), np.asarray(right)
        if compiled:
            return elementwise(compiled.mul, left, right)
        shape = np.broadcast_shapes(left.shape, right.shape)
        size = int(np.prod(shape, dtype=np.int64))
        if size <= _BLOCK:
            return _product(left, right)
        product = np.empty(shape, np.uint64)
        if left.shape == right.shape or not left.ndim or not right.ndim:
            flat = product.reshape(-1)
            a = left.reshape(-1) if left.ndim else left
            b = right.reshape(-1) if right.ndim else right
            for start in range(0, size, _BLOCK):
                block = slice(start, start + _BLOCK)
                flat[block] = _product(a[block] if a.ndim else a, b[block] if b.ndim else b)
            return product
        a, b = np.broadcast_to(left, shape), np.broadcast_to(right, shape)
        rows = max(1, _BLOCK * shape[0] // size)
        for start in range(0, shape[0], rows):
            if rows == 1:
                product[start] = PrimeField.mul(a[start], b[start])
            else:
                product[start : start + rows] = _product(a[start : start + rows], b[start : start + rows])
        return product

    @staticmethod
    def turn(elements: Elements, power: int) -> Elements:
        """`elements` times 2^power, for any integer `power`: their bits turned round."""
        power %= _BITS
        if not power:
            return elements
        left, right = np.uint64(power), np.uint64(_BITS - power)
        turned: Elements = ((elements << left) & _P) | (elements >> right)
        return turned

    @classmethod
    def weighed(cls, rows: Elements) -> Elements:
        """The sum [...] over j of 2^j times the j-th of `rows` [up to 61, ...]."""
        total = np.zeros(rows.shape[1:], np.uint64)
        if compiled and total.ndim:
            compiled.weigh(np.ascontiguousarray(rows), total)
            return total
        for j, row in enumerate(rows):
            total = cls.add(total, cls.turn(row, j))
        return total

    @classmethod
    def muladd(cls, left: Elements, right: Elements, summands: Elements) -> Elements:
        """Products plus `summands`, elementwise, of arrays of one shape."""
        if compiled and left.ndim and left.shape == right.shape == summands.shape:
            result = np.empty(left.shape, np.uint64)
            compiled.muladd(*map(np.ascontiguousarray, (left, right, summands)), result)
            return result
        return cls.add(cls.mul(left, right), summands)

    @classmethod
    def sum(cls, summands: Iterable[Elements], shape: tuple[int, ...]) -> Elements:
        """Sum of any number of arrays of elements of one `shape`, checked; zeros if there is none."""
        total = np.zeros(shape, np.uint64)
        for summand in map(cls.checked, summands):
            if compiled and summand.shape == shape and shape:
                compiled.add(total, np.ascontiguousarray(summand), total)
            else:
                total = cls.add(total, summand)
        return total

    @staticmethod
    def sum_axis(elements: Elements, axis: int) -> Elements:
        """Sum over one axis of fewer than 2^29 elements."""
        if compiled and elements.size:
            axis %= elements.ndim
            shape = elements.shape[:axis] + elements.shape[axis + 1 :]
            total = np.empty(shape, np.uint64)
            compiled.sum(np.ascontiguousarray(elements), total, math.prod(elements.shape[axis + 1 :]))
            return total if shape else total[()]
        low = (elements & _LOW32).sum(axis, dtype=np.uint64)
        high = (elements >> _S32).sum(axis, dtype=np.uint64)
        return _once(_once(_folded(low)) + PrimeField.turn(_once(_folded(high)), 32))

    @staticmethod
    def filled(elements: Elements, multiple: int) -> Elements:
        """`elements` with zeros after them on the last axis, as many as make its length a multiple of `multiple`."""
        length = elements.shape[-1]
        if not length % multiple:
            return elements
        filled = np.zeros((*elements.shape[:-1], -(-length // multiple) * multiple), np.uint64)
        filled[..., :length] = elements
        return filled

    @classmethod
    def power(cls, elements: Elements, exponent: int) -> Elements:
        """`elements` to a non-negative integer power, elementwise."""
        result, square = np.ones_like(elements), elements
        while exponent:
            if exponent & 1:
                result = cls.mul(result, square)
            square, exponent = cls.mul(square, square), exponent >> 1
        return result

    @classmethod
    def inverse(cls, elements: Elements) -> Elements:
        """Multiplicative inverse, elementwise.

        Raises:
            ZeroDivisionError: an element is 0.
        """
        if not np.all(elements):
            raise ZeroDivisionError("0 has no inverse in a field")
        if not elements.ndim:
            return np.asarray(pow(int(elements), -1, cls.p), np.uint64)
        return cls.power(elements, cls.p - 2)

    @staticmethod
    def matmul(left: Elements, right: Elements) -> Elements:
        """Matrix product [..., m, k] x [..., k, n] -> [..., m, n], exact."""
        inner = left.shape[-1]
        common = right.ndim == 2  # its product with all rows of the left side is one
        if compiled and left.ndim > 1 and (common or left.shape[:-2] == right.shape[:-2]):
            shape = (*left.shape[:-1], right.shape[-1])
            if 0 < math.prod(shape) * inner <= _LARGE:
                result = np.empty(shape, np.uint64)
                left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
                rows = math.prod(shape[:-1]) if common else shape[-2]
                compiled.matmul(left, right, result, rows, inner, shape[-1])
                return result
        total: Elements | None = None
        for start in range(0, max(inner, 1), _INNER):
            part = _limb_product(left[..., start : start + _INNER], right[..., start : start + _INNER, :])
            total = part if total is None else _once(total + part)
        assert total is not None
        return total


def _once(below_2p: np.ndarray) -> Elements:
    """Reduce numbers below 2p: the subtraction wraps round to something huge where it should not happen."""
    number = np.asarray(below_2p)  # numpy warns of wrapping round for scalars only
    reduced: Elements = np.minimum(number, number - _P)
    return reduced


def _folded(numbers: np.ndarray) -> np.ndarray:
    """Any uint64 to an equal number below 2p."""
    folded: np.ndarray = (numbers & _P) + (numbers >> _S61)
    return folded


def _product(left: Elements, right: Elements) -> Elements:
    """Schoolbook product of halves: ``2^64 = 8`` and ``2^61 = 1`` modulo p."""
    a0, a1, b0, b1 = left & _LOW32, left >> _S32, right & _LOW32, right >> _S32
    low, middle = a0 * b0, a1 * b0
    middle += a0 * b1  # below 2^62
    high = a1 * b1  # below 2^58
    high <<= _S3
    high += (middle & _LOW29) << _S32
    middle >>= _S29
    high += middle
    high += low & _P
    low >>= _S61
    high += low
    return _once(_folded(high))


def _limb_product(left: Elements, right: Elements) -> Elements:
    a = _limbs(left)
    b = _limbs(right)
    first, second = a[0] @ b[0], a[0] @ b[1] + a[1] @ b[0]
    third = a[0] @ b[2] + a[1] @ b[1] + a[2] @ b[0]
    fourth, fifth = a[1] @ b[2] + a[2] @ b[1], a[2] @ b[2]
    total = first.astype(np.uint64)  # below 2^53, as all five
    for weight, part in ((21, second), (42, third), (63, fourth), (84, fifth)):
        total += PrimeField.turn(part.astype(np.uint64), weight)  # five numbers below 2^61
    return _once(_folded(total))


def _limbs(elements: Elements) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low = (elements & _LIMB_MASK).astype(np.float64)
    rest = elements >> _LIMB
    return low, (rest & _LIMB_MASK).astype(np.float64), (rest >> _LIMB).astype(np.float64)
