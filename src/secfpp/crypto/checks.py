"""Evidence that a dealer dealt what it should, without learning what it dealt.

After everything is dealt, holders show coins they had committed to; their hash gives random weights that no dealer
could foresee. For every dealer two kinds of random combinations are opened, under zero-masks (`secfpp.crypto.masks`):

* *Degree*: what the shares are is combined to one share for each holder, and these with weights that make every
  polynomial of degree T vanish (the dual code); once for each responder, without that one. Shares of a higher degree
  give something else than 0 in all of them, a single wrong share in all but one, by chance of 2^-61 not.
* *Zero*: a combination of everything that should vanish (b^2 - b for a bit, ...), of degree 2 T.

For an honest dealer all of these are 0 whatever the weights are, so that nobody learns anything by choosing them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

import numpy as np

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.kernel import compiled
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import alpha

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
    if compiled:
        sums: Elements = PrimeField.matmul(rows, weights[:, None])[:, 0]
        return sums
    total = np.zeros(m, np.uint64)
    span = _INNER * _CHUNKS
    for start in range(0, n, span):
        part = PrimeField.filled(rows[:, start : start + span], _INNER)
        factor = PrimeField.filled(weights[start : start + span], _INNER)
        blocks = part.reshape(m, -1, _INNER).transpose(1, 0, 2)  # [chunks, m, inner]
        sums = PrimeField.matmul(blocks, factor.reshape(-1, _INNER, 1))[..., 0]
        total = PrimeField.add(total, PrimeField.sum_axis(sums, 0))
    return total


def bit_defects(bits: Shared) -> Shared:
    """What vanishes if all entries are 0 or 1, degree 2."""
    return bits * bits - bits


def parity_weights(responders: Sequence[int], own: int, threshold: int, stream: Stream) -> Elements:
    """With what holder `own` multiplies its share in the checks of degree, one for each responder left out.

    The dual of the code of polynomials of degree `threshold` at the points of the others is u_m g(alpha_m), with u_m
    the inverse of prod_k (alpha_m - alpha_k) and g any polynomial of degree below the number of the others minus
    `threshold` + 1; here a random one (F. MacWilliams, N. Sloane, The theory of error-correcting codes, 1977).

    Args:
        responders: the holders that answer, sorted.
        own: one of them.
        threshold: T.
        stream: the public random weights, the same for all.

    Returns:
        [responders]; 0 where `own` itself is left out.
    """
    free = len(responders) - 1 - (threshold + 1)
    powers, scales = _powers(own, free), _dual(tuple(responders), own)
    values = PrimeField.matmul(stream.elements((len(responders), free)), powers[:, None])[:, 0]
    return PrimeField.mul(values, scales)


@lru_cache(maxsize=512)
def _powers(own: int, count: int) -> Elements:
    return np.array([pow(alpha(own), exponent, PrimeField.p) for exponent in range(count)], np.uint64)


@lru_cache(maxsize=512)
def _dual(responders: tuple[int, ...], own: int) -> Elements:
    """u_own without each responder [responders], see `parity_weights`; 0 without itself."""
    p, points = PrimeField.p, {other: alpha(own) - alpha(other) for other in responders if other != own}
    whole = math.prod(points.values())
    return np.array([pow(whole, -1, p) * points[left] % p if left in points else 0 for left in responders], np.uint64)
