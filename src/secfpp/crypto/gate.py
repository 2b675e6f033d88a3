"""What is secret stays so if the server tells false roots, from which random signs are made.

A server that tells 0 as the root of a square makes a sign 0 that should be -1 or 1; other false roots make it a
multiple that the server chose. Masks made of such signs hide little or nothing. So holders add up, with weights that
depend on all roots, by how much the square of every sign differs from 1, and add

    z_0 r_0 + z_1 r_1

to what they open under such masks, where z_0 and z_1 are two such sums and r_0, r_1 fresh uniform elements. With right
roots both are 0 and nothing changes; else what is opened is uniform, whatever else is told. It costs no exchange: z has
degree 2, so that the product has degree 3.

The weights are a hash of the roots (A. Fiat, A. Shamir, How to prove yourself, 1986), so that a server finds false
roots that pass by trying only: each try passes by chance of 2^-120. Two sums are there because it can try often. The
weights of a matrix are products of one for its row and one for its column, which a sum misses by chance of 2^-60.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.errors import ProtocolError

SUMS = 2
_COLUMNS, _ROWS = 682, 32


class Gate:
    """One holder's share of the two sums, which it adds up as roots are told.

    Attributes:
        sums: shares of z, [2], of degree 2.
    """

    def __init__(self) -> None:
        self.sums: Elements = np.zeros(SUMS, np.uint64)
        self._told, self._used = b"secfpp/gate/1", False

    def watch(self, defects: Elements, told: Elements) -> None:
        """Add what has to vanish.

        Args:
            defects: shares of degree 2, of any shape.
            told: what the server told, on which they depend.

        Raises:
            ProtocolError: something was opened already that relies on the sums.
        """
        if self._used:
            raise ProtocolError("random signs are made after something was opened that relies on all of them")
        history = sha256(self._told)
        history.update(np.ascontiguousarray(told).data)
        self._told = history.digest()
        self.sums = PrimeField.add(self.sums, self._weighed(defects.reshape(-1)))

    def use(self) -> Elements:
        """The sums, now that they are complete."""
        self._used = True
        return self.sums

    def _weighed(self, defects: Elements) -> Elements:
        return weighed(defects, Stream(self._told))


class Idle(Gate):
    """The gate of a party that holds no shares, only follows: its sums stay 0."""

    def _weighed(self, defects: Elements) -> Elements:
        return np.zeros(SUMS, np.uint64)


def weighed(values: Elements, weights: Stream) -> Elements:
    """Two sums [2] of `values` [n], cut into rows, with weights as the module says."""
    count = -(-len(values) // _COLUMNS)
    columns, rows = weights.elements((_COLUMNS, SUMS)), weights.elements((count, SUMS))
    total = np.zeros(SUMS, np.uint64)
    for start in range(0, count, _ROWS):
        part = values[start * _COLUMNS : (start + _ROWS) * _COLUMNS]
        part = PrimeField.filled(part, _COLUMNS).reshape(-1, _COLUMNS)
        sums = PrimeField.mul(PrimeField.matmul(part, columns), rows[start : start + _ROWS])
        total = PrimeField.add(total, PrimeField.sum_axis(sums, 0))
    return total
