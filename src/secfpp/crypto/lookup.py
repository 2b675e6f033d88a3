"""Functions of small shared integers that nobody sees.

For an integer 0 <= x < 2^b, open m = x + u + 2^b t, with u made of b secret random bits and t the sum of T + 1 or more
integers below 2^h, one of which at least is uniform and secret. Nothing wraps, so m hides x to within 2^-h; it is
`gated`, in case the bits are none. Modulo 2^b, m is x + u: so any function of x is a public linear function of the
one-hot vector of u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared, gated, lowered, opened, signs
from secfpp.crypto.comparison import characters, one_hot
from secfpp.crypto.field import Elements, PrimeField


def hidden_bits(bits: int, summands: int) -> int:
    """h, as many as leave m below p."""
    return PrimeField.bits - 1 - bits - summands.bit_length()


@dataclass(frozen=True)
class DrawnLookup:
    """Drawn material for functions of `count` integers.

    Args:
        signs: (-1)^bit of the bits of u [bits, count], least significant first.
        mask: u + 2^b t [count].
    """

    signs: Shared
    mask: Shared

    @classmethod
    def prepare(cls, largest: int, count: int, pool: Pool) -> Computation[DrawnLookup]:
        """Material for integers up to `largest`: one exchange here, and one in `expand`."""
        bits = max(largest, 1).bit_length()
        drawn = yield from signs((bits, count), pool)
        every = Shared(np.full(count, (1 << bits) - 1, np.uint64), 0)
        u = every - drawn.weighed()  # u = (2^b - 1 - sum_j 2^j x_j) / 2 for signs x_j
        high = pool.integers(hidden_bits(bits, pool.summands), (count,))
        return cls(drawn, u.turn(-1) + high.turn(bits))

    def expand(self, pool: Pool) -> Computation[Lookup]:
        """Prepare the one-hot vectors."""
        bits = len(self.signs.values)
        products = yield from characters(self.signs, pool)
        (products,) = yield from lowered([products], pool)
        return Lookup(Shared(one_hot(products.values, bits), 1), self.mask)


@dataclass(frozen=True)
class Lookup:
    """Expanded material.

    Args:
        one_hot: of u [2^bits, count].
        mask: u + 2^b t [count].
    """

    one_hot: Shared
    mask: Shared

    def turned(self, x: Shared, pool: Pool) -> Computation[np.ndarray]:
        """The public x + u modulo 2^b, int64 [count], of integers in range; one exchange."""
        (m,) = yield from opened([gated(x + self.mask, pool)])
        return m.astype(np.int64) % len(self.one_hot.values)

    def value(self, turned: np.ndarray, table: Elements) -> Shared:
        """The entry of `table`, of up to 2^b elements, at each integer [count], degree 1."""
        size = len(self.one_hot.values)
        every = np.zeros(size, np.uint64)
        every[: len(table)] = table
        entries = every[(turned - np.arange(size)[:, None]) % size]
        return Shared(PrimeField.sum_axis(PrimeField.mul(self.one_hot.values, entries), 0), self.one_hot.degree)
