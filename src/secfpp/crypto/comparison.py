"""Signs of shared integers that nobody sees.

For a shared integer x of magnitude at most `bound`, open

    m = f x + 2^k + r  modulo p,      r = 2^k t + u,

where t is made of w = 61 - k random bits and u is the sum of n integers below 2^k (`Pool.summands`), one of which at
least is uniform and secret. So r is uniform modulo p (to within 2^-61), and m says nothing; it is `gated`, in case the
bits are none. Dividing by 2^k,

    top(m) - t = floor(f x / 2^k + 1 + carry)  modulo 2^w,      -1 <= carry <= n - 1,

whose top bit is the sign of x whenever f >= (n + 1) 2^k: the low bits can be off by their carry only. The sign is then
computed from the digits of t: with one-hot digits, "greater" and "equal" at a public digit are linear. Digits are
combined in groups of `limit`, one exchange per level of groups, until `limit` - 1 groups are left.

Material for signs is first drawn (`DrawnMasks`), at no input, then expanded to digits (`Masks`).

Sources: I. Damgard et al., Unconditionally secure constant-rounds multi-party computation for equality, comparison,
bits and exponentiation (2006), for masked comparison; the carry bound is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from secfpp.crypto.arithmetic import (
    Computation,
    Future,
    Masked,
    Pool,
    Shared,
    concatenate,
    gated,
    lowered,
    opened,
    signs,
    together,
)
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.kernel import MOST_BITS, compiled
from secfpp.errors import FieldRangeError

_BLOCK = 1 << 14


@dataclass(frozen=True)
class Comparator:
    """How signs of integers up to `bound` are found; `plan` chooses the rest.

    Attributes:
        bound: largest magnitude.
        carry: n - 1: T, or more if integers are sums of more than T + 1.
        widths: bits of the digits, least significant first; w in all.
        levels: exchanges in which groups of digits are combined.
    """

    bound: int
    carry: int
    widths: tuple[int, ...]
    levels: int

    @classmethod
    def plan(
        cls, bound: int, carry: int, limit: int, levels: int, bits: int | None = None, degree: int | None = None
    ) -> Comparator:
        """The comparator with the cheapest digits.

        Args:
            bound: largest magnitude of what is compared.
            carry: see `Comparator`.
            limit: the largest degree that can be opened.
            levels: exchanges for combining digits.
            bits: compare only so many bits, if fewer than an exact comparison needs: see `exact`.
            degree: the largest degree of a result; None is `limit` - 1.

        Raises:
            FieldRangeError: the bound needs more than 60 bits.
        """
        exact = ((carry + 2) * (bound + 1)).bit_length() + 1
        if bits is None and exact > 60:
            raise FieldRangeError(
                f"comparing numbers up to {bound} takes {exact} bits, 60 are there: use fewer bits or clients"
            )
        w = exact if bits is None else min(bits, exact)
        count = min(w, (degree or limit - 1) * limit**levels)
        small, rest = divmod(w, count)
        return cls(bound, carry, (small,) * (count - rest) + (small + 1,) * rest, levels)

    @classmethod
    def soonest(cls, bound: int, carry: int, limit: int) -> Comparator:
        """All bits, in as few exchanges as digits allow that are ready when they are used; see `plan`."""
        levels = 0
        while max((found := cls.plan(bound, carry, limit, levels)).widths) > limit:
            levels += 1
        return found

    @property
    def w(self) -> int:
        """Bits compared."""
        return sum(self.widths)

    @property
    def runs(self) -> Sequence[tuple[int, int]]:
        """Bits and number of successive digits that are as wide, which are computed with at once."""
        return [(bits, len(list(digits))) for bits, digits in groupby(self.widths)]

    @property
    def k(self) -> int:
        """Bits below them."""
        return PrimeField.bits - self.w

    @property
    def factor(self) -> int:
        """f, the largest that keeps f x + 2^k in range."""
        return (((1 << (self.w - 1)) - 2 - self.carry) << self.k) // max(self.bound, 1)

    @property
    def exact(self) -> bool:
        """Whether every sign is right; else those of negative x above -`blur` may be taken for non-negative."""
        return self.factor >= (self.carry + 2) << self.k

    @property
    def blur(self) -> int:
        """Smallest magnitude from which signs are certain."""
        return -(-((self.carry + 2) << self.k) // self.factor)

    def prepare(self, count: int, pool: Pool) -> Computation[DrawnMasks]:
        """Material for `count` signs, at no input: one exchange here, and one in `DrawnMasks.expand`."""
        drawn = yield from signs((self.w, count), pool)
        # t = sum_j 2^j (1 - x_j) / 2 = (2^w - 1 - sum_j 2^j x_j) / 2 for signs x_j
        every = Shared(np.full(count, ((1 << self.w) - 1) % PrimeField.p, np.uint64), 0)
        mask = (every - drawn.weighed()).turn(self.k - 1) + pool.integers(self.k, (count,))
        return DrawnMasks(self, drawn, mask)

    def opening(self, x: Shared, mask: Shared, pool: Pool) -> Computation[Elements]:
        """The public m of the integer x [count] under the mask r [count]; one exchange."""
        scaled = Shared(PrimeField.mul(x.values, np.array(self.factor % PrimeField.p, np.uint64)), x.degree)
        hidden = gated(scaled + (1 << self.k) + mask, pool)
        (m,) = yield from opened([Masked(hidden.values, hidden.degree)])
        return m


@dataclass(frozen=True)
class DrawnMasks:
    """Drawn material for the signs of one array.

    Args:
        comparator: its settings.
        signs: the signs (-1)^bit of the bits of t [w, count], least significant first.
        mask: r [count].
    """

    comparator: Comparator
    signs: Shared
    mask: Shared

    def expand(self, pool: Pool) -> Computation[Masks]:
        """Prepare the digits; it does not hold on to the signs, which are large."""
        parts, start = [], 0
        for bits, digits in self.comparator.runs:
            run = self.signs[start : start + bits * digits].reshape(digits, bits, -1)
            parts.append(characters(run.transpose(1, 0, 2), pool))
            start += bits * digits
        return _expanded(self.comparator, self.mask, parts, pool)

    def negative(self, x: Shared, expanding: Future[Masks], pool: Pool) -> Computation[Shared]:
        """See `Masks.negative`; x is opened while the digits are prepared, in one exchange, beside this."""
        m = yield from self.comparator.opening(x, self.mask, pool)
        return (yield from expanding.result.compared(m, pool))


def _expanded(
    comparator: Comparator, mask: Shared, parts: Sequence[Computation[Shared]], pool: Pool
) -> Computation[Masks]:
    reduced = yield from lowered((yield from together(parts)), pool)
    return Masks(comparator, mask, tuple(product.values for product in reduced))


@dataclass(frozen=True)
class Masks:
    """Expanded material for the signs of one array.

    Args:
        comparator: its settings.
        mask: r [count].
        characters: shares of the characters of the digits of t [2^bits - 1, digits, count] in each of
            `Comparator.runs`, least significant first.
    """

    comparator: Comparator
    mask: Shared
    characters: tuple[Elements, ...]

    def negative(self, x: Shared, pool: Pool) -> Computation[Shared]:
        """1 where the integer x [count] is negative, else 0; degree at most `limit` - 1; 1 + `levels` exchanges."""
        m = yield from self.comparator.opening(x, self.mask, pool)
        return (yield from self.compared(m, pool))

    def compared(self, m: Elements, pool: Pool) -> Computation[Shared]:
        """The signs that the public m [count] give; `levels` exchanges."""
        greater, equal = self._digits(m >> np.uint64(self.comparator.k))
        for _ in range(self.comparator.levels):
            single = len(greater) % pool.limit == 1  # a last group of one digit, which is as it was
            greater, equal = _combined(greater, equal, pool.limit)
            end = len(greater) - single
            high = [Shared(part, pool.limit) for part in (greater[:end], equal[: end - 1]) if len(part)]
            for part, low in zip((greater, equal), (yield from lowered(high, pool)), strict=False):
                part[: len(low.values)] = low.values
        count = len(greater)
        return Shared(_combined(greater, equal, count)[0][0], count)

    def _digits(self, m: np.ndarray) -> tuple[Elements, Elements]:
        """For every digit of t whether it is greater than that of m [count], and equal.

        The sign of m - t modulo 2^w is [t > m] - [t > m'] + [m >= 2^(w-1)], where m' has the top bit turned; m' differs
        from m in the top digit only, which takes up all three terms.

        Returns:
            [digits, count] least significant first, and [digits - 1, count] without the least significant one.
        """
        digits = len(self.comparator.widths)
        greater, equal = np.empty((digits, *m.shape), np.uint64), np.empty((digits, *m.shape), np.uint64)
        row, start = 0, 0
        for (bits, count), values in zip(self.comparator.runs, self.characters, strict=True):
            for first in range(0, count, rows := max(1, _BLOCK // max(m.size, 1))):
                part, places = values[:, first : first + rows], np.arange(first, min(first + rows, count))
                digit = (m >> (start + bits * places).astype(np.uint64)[:, None]) & np.uint64((1 << bits) - 1)
                into = slice(row + first, row + first + len(places))
                greater[into], equal[into] = _at(part, digit, bits)
            row, start = row + count, start + bits * count
        # `digit` and `bits` are those of the last rows, of which the last has the top bit.
        above, same = _at(part[:, -1], digit[-1] ^ np.uint64(1 << (bits - 1)), bits)
        greater[-1] = PrimeField.add(PrimeField.sub(greater[-1], above), digit[-1] >> np.uint64(bits - 1))
        equal[-1] = PrimeField.sub(equal[-1], same)
        return greater, equal[1:]


def characters(single: Shared, pool: Pool) -> Computation[Shared]:
    """The characters [2^bits - 1, ...] of bits from their signs [bits, ...]: entry S - 1 is the product over the set S.

    No exchange for up to `limit` bits; of more, the halves are lowered first.
    """
    bits = len(single.values)
    if bits > pool.limit:
        half = bits // 2
        halves = yield from together([characters(single[:half], pool), characters(single[half:], pool)])
        low, high = yield from lowered(halves, pool)
        crossed = [concatenate([one[None], low * one], axis=0) for one in high]
        return concatenate([low, *crossed], axis=0)
    found = np.empty(((1 << bits) - 1, *single.shape[1:]), np.uint64)
    if compiled:
        compiled.characters(np.ascontiguousarray(single.values), found, bits)
        return Shared(found, bits * single.degree)
    for mask in range(1, 1 << bits):
        lowest = mask & -mask
        one = single.values[lowest.bit_length() - 1]
        found[mask - 1] = one if mask == lowest else PrimeField.mul(found[(mask ^ lowest) - 1], one)
    return Shared(found, bits * single.degree)


def one_hot(values: Elements, bits: int) -> Elements:
    """Indicators [2^bits, ...] of a number from the characters [2^bits - 1, ...] of its bits."""
    return walsh_hadamard(np.concatenate([np.ones((1, *values.shape[1:]), np.uint64), values]), bits)


def walsh_hadamard(table: Elements, bits: int, *, whole: bool = False) -> Elements:
    """The transform of the first axis [2^bits, ...], over 2^bits unless it is `whole`."""
    power = 0 if whole else -bits % PrimeField.bits
    if compiled:
        result = np.empty(table.shape, np.uint64)
        compiled.hadamard(np.ascontiguousarray(table), result, bits, power)
        return result
    for j in range(bits):
        pairs = table.reshape(-1, 2, 1 << j, *table.shape[1:])
        a, b = pairs[:, 0], pairs[:, 1]
        table = np.stack([PrimeField.add(a, b), PrimeField.sub(a, b)], 1).reshape(table.shape)
    return PrimeField.turn(table, power)


def _at(values: Elements, digits: np.ndarray, bits: int) -> tuple[Elements, Elements]:
    """[digit of t > digits] and [digit of t = digits], both [...], from characters [2^bits - 1, ...]."""
    greater, equal = np.empty(digits.shape, np.uint64), np.empty(digits.shape, np.uint64)
    if compiled and bits <= MOST_BITS:
        compiled.compare(np.ascontiguousarray(values), digits, greater, equal, bits)
        return greater, equal
    values, digits = values.reshape(len(values), -1), digits.reshape(-1)
    for start in range(0, len(digits), _BLOCK >> bits):
        block = slice(start, start + (_BLOCK >> bits))
        exact = one_hot(values[:, block], bits)
        above = np.zeros_like(exact)
        for value in range((1 << bits) - 2, -1, -1):
            above[value] = PrimeField.add(above[value + 1], exact[value + 1])
        index = digits[None, block].astype(np.int64)
        equal.reshape(-1)[block] = np.take_along_axis(exact, index, 0)[0]
        greater.reshape(-1)[block] = np.take_along_axis(above, index, 0)[0]
    return greater, equal


def _combined(greater: Elements, equal: Elements, size: int) -> tuple[Elements, Elements]:
    """Groups of `size` digits as one digit each; the last group may be smaller. See `Masks._digits`."""
    g, e = greater[::size].copy(), equal[size - 1 :: size].copy()
    for place in range(1, size):
        higher, same = greater[place::size], equal[place - 1 :: size]
        g[: len(higher)] = PrimeField.muladd(same, g[: len(higher)], higher)
        same = equal[size - 1 + place :: size]
        if len(same):
            e[: len(same)] = PrimeField.mul(same, e[: len(same)])
    return g, e
