"""Evidence that a dealer dealt what it should, without learning what it dealt.

After everything is dealt, holders show coins they had committed to; their hash gives random weights that no dealer
could foresee. For every dealer the holders then compute two random combinations of its shares:

* *Degree*: the combination of all its shares plus one more that the dealer made of a uniform element is shown share by
  share. It must lie on a polynomial of degree T, and does so by chance of 2^-61 if the shares do not.
* *Zero*: the combination of everything that should vanish (b^2 - b for a bit, ...), of degree 2 T, is opened under
  zero-masks and must be 0.

So a failed check names the dealer and shows nothing of an honest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream

COIN_BYTES = 32
_INNER, _CHUNKS = 682, 32


def commitment(name: str, coin: bytes) -> bytes:
    """What `name` shows of its coin in advance."""
    return sha256(b"secfpp/coin/1\0" + name.encode() + b"\0" + coin).digest()


def joint_stream(coins: Mapping[str, bytes], purpose: str) -> Stream:
    """The public random weights that all coins give together."""
    parts = b"".join(sha256(name.encode() + b"\0" + coin).digest() for name, coin in sorted(coins.items()))
    return Stream(sha256(purpose.encode() + b"\0" + parts).digest())


def combination(rows: Elements, weights: Elements) -> Elements:
    """Sums over the last axis of `rows` [m, n] times `weights` [n]: [m]."""
    m, n = rows.shape
    total = np.zeros(m, np.uint64)
    span = _INNER * _CHUNKS
    for start in range(0, n, span):
        part, factor = rows[:, start : start + span], weights[start : start + span]
        if short := -part.shape[1] % _INNER:
            part, factor = np.pad(part, ((0, 0), (0, short))), np.pad(factor, (0, short))
        blocks = part.reshape(m, -1, _INNER).transpose(1, 0, 2)  # [chunks, m, inner]
        sums = PrimeField.matmul(blocks, factor.reshape(-1, _INNER, 1))[..., 0]
        total = PrimeField.add(total, PrimeField.sum_axis(sums, 0))
    return total


def bit_defects(bits: Shared) -> Shared:
    """What vanishes if all entries are 0 or 1, degree 2."""
    return bits * bits - bits
