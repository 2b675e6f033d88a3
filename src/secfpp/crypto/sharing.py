"""Lagrange coding: several secrets in one polynomial, a value of it for every holder.

`LagrangeCode` shares l blocks with threshold T as values of a random polynomial f of degree l + T - 1 with
f(beta_i) = block i: holder j gets f(alpha_j). Any T shares are uniform and independent of the blocks, whatever an
adversary can compute; any l + T shares give the blocks. Sums of codewords are codewords; products of d codewords
are values of a polynomial of degree d (l + T - 1). Shamir's scheme is the case l = 1.

The alphas are 1, -1, 2, -2, 4, -4, ...: multiplying by one of them is a turn of bits, see `PrimeField.turn`.

Sources: A. Shamir, How to share a secret (1979); Q. Yu et al., Lagrange coded computing (arXiv 1806.00939).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.kernel import compiled
from secfpp.crypto.randomness import Stream
from secfpp.errors import DropoutError, ProtocolError, TamperError

_P = PrimeField.p
_BLOCK = 1 << 13
"""Secrets shared at a time, so that temporaries stay in the processor's cache."""
MOST_HOLDERS = 2 * PrimeField.bits
"""There are so many different alphas."""


def alpha(holder: int) -> int:
    """The point of holder number `holder`, from 0."""
    power = 1 << (holder // 2)
    return _P - power if holder % 2 else power


def beta(block: int) -> int:
    """The point of block number `block`, from 0: 0, then the odd numbers from 3, which no alpha is equal to."""
    return 2 * block + 1 if block else 0


@lru_cache(maxsize=512)
def interpolation(sources: tuple[int, ...], targets: tuple[int, ...]) -> Elements:
    """Matrix [targets, sources]: values at `sources` of a polynomial of lower degree to its values at `targets`."""
    rows = []
    for target in targets:
        row = []
        for i, source in enumerate(sources):
            above = below = 1
            for k, other in enumerate(sources):
                if k != i:
                    above, below = above * (target - other) % _P, below * (source - other) % _P
            row.append(above * pow(below, -1, _P) % _P)
        rows.append(row)
    return np.array(rows, np.uint64).reshape(len(targets), len(sources))


@lru_cache(maxsize=64)
def interpolation_beyond(length: int) -> Elements:
    """The `interpolation` from 0..length to length + 1..2 length, by binomials.

    The weight of node i at t is (-1)^(length - i) binom(t, i) binom(t - i - 1, length - i).
    """
    rows = [
        [(-1) ** (length - i) * math.comb(t, i) * math.comb(t - i - 1, length - i) % _P for i in range(length + 1)]
        for t in range(length + 1, 2 * length + 1)
    ]
    return np.array(rows, np.uint64)


@lru_cache(maxsize=512)
def weights_at_zero(holders: tuple[int, ...]) -> Elements:
    """What the shares of `holders` are multiplied with to add up to the value at 0 [holders]."""
    weights: Elements = interpolation(tuple(map(alpha, holders)), (0,))[0]
    return weights


@dataclass(frozen=True)
class LagrangeCode:
    """A code of `blocks` secrets for `holders`, of whom any `threshold` together learn nothing.

    Raises:
        ProtocolError: numbers that give no code.
    """

    holders: int
    threshold: int
    blocks: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.holders <= MOST_HOLDERS:
            raise ProtocolError(f"{self.holders} holders: 1 to {MOST_HOLDERS} are possible")
        if self.threshold < 0 or self.blocks < 1 or self.required() > self.holders:
            raise ProtocolError(
                f"{self.blocks} blocks with threshold {self.threshold} need {self.required()} holders, "
                f"there are {self.holders}: lower one of them"
            )

    def required(self, degree: int = 1) -> int:
        """How many shares give back the products of `degree` codewords."""
        return degree * (self.blocks + self.threshold - 1) + 1

    def encode(self, data: Elements, stream: Stream) -> Elements:
        """Shares [holders, ...] of the blocks `data` [blocks, ...].

        f(x) = sum_i block_i L_i(x) + Z(x) (m_0 + m_1 x + ... + m_{T-1} x^{T-1}) with L_i the Lagrange basis of the
        betas, Z(x) = prod_i (x - beta_i) and uniform m_t from `stream`.
        """
        if not self.threshold:
            raise ProtocolError("threshold 0 shares nothing in secret: it is for decoding only")
        if data.shape[:1] != (self.blocks,):
            raise ProtocolError(f"data of shape {data.shape}: the first axis holds the {self.blocks} blocks")
        flat = data.reshape(self.blocks, -1)
        shares = np.empty((self.holders, flat.shape[1]), np.uint64)
        for start in range(0, flat.shape[1], _BLOCK):
            self._encode(flat[:, start : start + _BLOCK], stream, shares, start)
        return shares.reshape(self.holders, *data.shape[1:])

    def encode_apart(self, data: Elements, stream: Stream, more: int = 0) -> list[Elements]:
        """What `encode` gives of `data` [blocks, n], each holder's share an array of its own.

        Each has room for `more` elements behind it, zeros. Several arrays of this size are made of memory that is at
        hand, where one for all has its pages cleared each time.
        """
        n = data.shape[1]
        rows = [np.empty(n + more, np.uint64) for _ in range(self.holders)]
        for start in range(0, n, _BLOCK):
            part = self.encode(data[:, start : start + _BLOCK], stream)
            for row, share in zip(rows, part, strict=True):
                row[start : start + len(share)] = share
        for row in rows:
            row[n:] = 0
        return rows

    def encode_each(self, parts: Sequence[tuple[Elements, Stream]]) -> list[Elements]:
        """What `encode` gives for each of `parts`, data of one shape [blocks, n] with a stream of its own."""
        shape = parts[0][0].shape
        if len(parts) == 1 or self.blocks == 1 or shape[1] > _BLOCK:
            return [self.encode(data, stream) for data, stream in parts]
        rows = self.blocks + self.threshold
        columns = np.empty((rows, len(parts), shape[1]), np.uint64)
        for i, (data, stream) in enumerate(parts):
            columns[: self.blocks, i] = data
            columns[self.blocks :, i] = stream.elements((self.threshold, shape[1]))
        shares = PrimeField.matmul(_encoding(self), columns.reshape(rows, -1)).reshape(self.holders, *columns.shape[1:])
        return [shares[:, i] for i in range(len(parts))]

    def _encode(self, data: Elements, stream: Stream, shares: Elements, start: int) -> None:
        masks = stream.elements((self.threshold, data.shape[1]))
        if self.blocks == 1 and compiled:
            compiled.encode(np.ascontiguousarray(data), masks, shares, self.holders, start)
            return
        into = shares[:, start : start + data.shape[1]]
        if self.blocks > 1:
            into[:] = PrimeField.matmul(_encoding(self), np.concatenate([data, masks]))
            return
        for j in range(0, self.holders, 2):  # f = block + m_0 x + m_1 x^2 + ..., and -x differs in the odd terms' sign
            even, odd = _parts([data[0], *masks], j // 2)
            into[j] = PrimeField.add(even, odd)
            if j + 1 < self.holders:
                into[j + 1] = PrimeField.sub(even, odd)

    def decode(self, shares: Mapping[int, Elements], degree: int = 1) -> Elements:
        """The blocks [blocks, ...] of products of `degree` codewords; redundant shares are checked.

        Args:
            shares: holder's number to its share; equal shapes.
            degree: how many codewords were multiplied.

        Raises:
            DropoutError: too few shares.
            TamperError: the shares are not of one polynomial; see `liars` for whom to blame.
        """
        need = self.required(degree)
        if len(shares) < need:
            raise DropoutError("decode", need, len(shares), ())
        present = sorted(shares)
        points = tuple(map(alpha, present[:need]))
        first = np.stack([shares[h] for h in present[:need]]).reshape(need, -1)
        rest = present[need:]
        targets = tuple(map(beta, range(self.blocks))) + tuple(map(alpha, rest))
        values = PrimeField.matmul(interpolation(points, targets), first)
        for holder, expected in zip(rest, values[self.blocks :], strict=True):
            if not np.array_equal(expected, shares[holder].reshape(-1)):
                raise TamperError(None, "decode", "the shares are not of one polynomial: somebody sent a wrong one")
        return values[: self.blocks].reshape(self.blocks, *shares[present[0]].shape)

    def liars(self, shares: Mapping[int, Elements], degree: int = 1) -> tuple[int, ...] | None:
        """The holders whose shares are off the polynomial of all others, if that is certain.

        With n shares, up to (n - required) // 2 wrong ones have one explanation only; () if all shares fit.

        Returns:
            The numbers of the liars, or None: there are too many, or too few honest shares to tell.
        """
        need, present = self.required(degree), sorted(shares)
        if len(present) < need:
            return None
        stacked = np.stack([shares[h] for h in present]).reshape(len(present), -1)
        # One random combination per share: shares that differ stay different but for a chance of 2^-61.
        challenge = Stream.fresh(_Challenge(stacked)).elements((stacked.shape[1], 1))
        values = [int(v) for v in PrimeField.matmul(stacked, challenge)[:, 0]]
        for count in range((len(present) - need) // 2 + 1):
            for suspects in combinations(range(len(present)), count):
                kept = [i for i in range(len(present)) if i not in suspects]
                if _on_one_polynomial([alpha(present[i]) for i in kept], [values[i] for i in kept], need):
                    return tuple(present[i] for i in suspects)
        return None


@lru_cache(maxsize=64)
def _encoding(code: LagrangeCode) -> Elements:
    """Matrix [holders, blocks + threshold] from blocks and masks to shares: L_i(alpha_j), then Z(alpha_j) alpha_j^t."""
    basis = interpolation(tuple(map(beta, range(code.blocks))), tuple(map(alpha, range(code.holders))))
    rows = []
    for holder in range(code.holders):
        point, vanishing = alpha(holder), 1
        for block in range(code.blocks):
            vanishing = vanishing * (point - beta(block)) % _P
        rows.append([vanishing * pow(point, t, _P) % _P for t in range(code.threshold)])
    return np.concatenate([basis, np.array(rows, np.uint64)], axis=1)


def _parts(coefficients: Sequence[Elements], power: int) -> tuple[Elements, Elements]:
    """Even and odd terms at x = 2^power of the polynomial with these coefficients, at least two, lowest first."""
    even, odd = coefficients[0], PrimeField.turn(coefficients[1], power)
    for t, coefficient in enumerate(coefficients[2:], 2):
        term = PrimeField.turn(coefficient, power * t)
        if t % 2:
            odd = PrimeField.add(odd, term)
        else:
            even = PrimeField.add(even, term)
    return even, odd


class _Challenge:
    """Entropy that is a hash of the shares: unpredictable to whoever had to choose them before."""

    def __init__(self, shares: Elements) -> None:
        from hashlib import sha256

        self._digest = sha256(np.ascontiguousarray(shares).data).digest()

    def random_bytes(self, count: int) -> bytes:
        return self._digest[:count]


def _on_one_polynomial(points: Sequence[int], values: Sequence[int], need: int) -> bool:
    matrix = interpolation(tuple(points[:need]), tuple(points[need:]))
    return all(
        sum(int(c) * v for c, v in zip(row, values[:need], strict=True)) % _P == value
        for row, value in zip(matrix, values[need:], strict=True)
    )
