"""Evidence that holders were told what was opened, which they give each other.

Everything that is opened is told by the server. What is opened under a uniform mask stays uniform whatever was told
before. So it is enough if holders verify what they were told before they open anything else.

Holder j has its share s_jk of every opened value, of a polynomial of degree D = `limit` T at most, and was told v_k. It
shows the others

    r_j = sum_k w_k (s_jk - v_k) + z_j

with weights w that are a hash of all that was told, and z_j its share of a sharing of 0 of degree D. If v_k is what was
opened for all k, then all r_j are of one polynomial of degree D that is 0 at 0. Each holder checks that on D + 1 + T of
them, D + 1 of which are honest at least and alone determine the polynomial: T liars can only make it fail. False values
pass by chance of 2^-120 for each try, as there are two such sums (see `secfpp.crypto.gate`).

What the r_j show is sum_k w_k times what was opened, since z hides all other coefficients: the values at 0 of what
either was opened under a mask or was verified before. Holders that were told different things must not share a z, or
their r_j would say more. So z is a combination of c - T + 1 dealt ones, with factors that are a hash of all that was
told: for up to c - T different histories, they are independent. See docs/decisions/0012-verified-openings.md.

A sharing of 0 of degree D is made of D - T dealt uniform elements of degree T, as sum_i x^i U_i(x) for i from 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import SUMS
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import alpha, interpolation


def mask_shape(holders: int, threshold: int, limit: int) -> tuple[int, int, int]:
    """Uniform elements that one check takes: [sums, sharings of 0 that are combined, elements of each]."""
    return SUMS, holders - threshold + 1, (limit - 1) * threshold


def blended(uniform: Elements, told: Stream) -> Elements:
    """Shares of one random element for each different `told` of shares of several [..., sharings]: [...]."""
    flat = uniform.reshape(-1, uniform.shape[-1])
    return PrimeField.matmul(flat, told.elements((flat.shape[1], 1)))[:, 0].reshape(uniform.shape[:-1])


def zero_share(uniform: Elements, own: int, told: Stream) -> Elements:
    """Holder `own`'s share of one random sharing of 0 for each sum [sums].

    Args:
        uniform: its shares of uniform elements, of `mask_shape`.
        own: its number.
        told: public randomness that depends on all that was told.
    """
    point, power, powers = alpha(own), 1, []
    for _ in range(uniform.shape[2]):
        power = power * point % PrimeField.p
        powers.append(power)
    zeros = PrimeField.matmul(uniform, np.array(powers, np.uint64)[:, None])[..., 0]  # [sums, sharings]
    return blended(zeros, told)


def of_degree(shares: Mapping[int, Elements], degree: int) -> bool:
    """Whether shares are of one polynomial of this degree.

    Args:
        shares: holder's number to its shares of some values [m].
        degree: smaller than the number of holders.
    """
    rest = sorted(shares)[degree + 1 :]
    found = _continued(shares, degree, tuple(map(alpha, rest)))
    return all(np.array_equal(value, shares[holder]) for holder, value in zip(rest, found, strict=True))


def of_zeros(shares: Mapping[int, Elements], degree: int) -> bool:
    """Whether they are, and all values are 0; see `of_degree`."""
    return of_degree(shares, degree) and not _continued(shares, degree, (0,)).any()


def _continued(shares: Mapping[int, Elements], degree: int, targets: tuple[int, ...]) -> Elements:
    """What the polynomial through the first shares is at the targets [targets, m]."""
    first = sorted(shares)[: degree + 1]
    points = tuple(map(alpha, first))
    return PrimeField.matmul(interpolation(points, targets), np.stack([shares[holder] for holder in first]))
