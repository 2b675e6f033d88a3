"""Evidence that a shared vector is short, which shows nothing else of it.

A client has shared a vector u of integers in a `LagrangeCode`. A bound on its squared length cannot be read from the
field alone: a sum of squares modulo p says nothing if it wrapped. So two things are proven together.

* *No wrap.* Random projections y_k = <r_k, u> modulo p, whose coefficients are drawn from -C..C after u was shared,
  lie in [-E, E). Let the squared length be R or more. (1) If some |u_t| > 2 E, of two neighbouring coefficients of it
  at most one leads there. (2) If 2 E >= |u_t| >= t sqrt(R), at most 2 E / |u_t| + 1 of its coefficients do, as their
  products do not wrap. (3) If all are shorter, the projection of a part of u of squared length R to (1 + t^2) R does
  not wrap, and is normal but for 0.56 k t in its distribution function (Berry and Esseen; k is E|r|^3 / (E r^2)^(3/2)),
  so that it lies in an interval of 2 E with probability 2 E / (s sqrt(2 pi)) + 1.12 k t at most, s^2 being R E r^2.
  With the best t, so many projections are made that all of them lie there with probability 2^-32 at most.
  (Coefficients +-1 would not do: of two entries of (p - 1) / 2 all projections come out small.)
* *Short.* The sum of squares and a number from 0 to the limit add up to the limit modulo p. As the squares are below
  R = p - limit, they do so over the integers.

The client shares the bits of all these numbers, and shows that they are bits and that the sum of squares is right as
in Prio: rows of numbers are values of polynomials f at 1..k with a random one at 0, it shares values of f^2 beside
them, and at a random point both are opened, where they tell nothing of the row. Rows lie in every block of the code,
so that what is opened are codewords, and who answers falsely is found. All linear relations are opened as one random
combination: a codeword for each block, of which the value in this block counts and the client's pads hide all others.

The client's proof is fixed before the point is drawn, and u before the coefficients are; who draws them must not tell
the client in advance. For an honest client what is opened is uniform but for relations that hold, whatever is drawn.

Sources: H. Corrigan-Gibbs, D. Boneh, Prio (NSDI 2017); J. Bell et al., ACORN (USENIX Security 2023), and M. Rathee et
al., ELSA (S&P 2023), for bounds on updates; W. Beullens, G. Seiler, LaBRADOR (CRYPTO 2023), for projections modulo p;
I. Shevtsova (arXiv 1111.6554) for the constant 0.56.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import accumulate

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.projections import VARIANCE, coefficients_of, passing, small_sums
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import interpolation_beyond
from secfpp.errors import FieldRangeError

_P = PrimeField.p
SOUNDNESS, COMPLETENESS = 32, 40
"""A long vector passes with probability 2^-32 at most, an honest one fails with 2^-40 at most."""
SEED_BYTES = 32
_MOST = 0.9
"""With a higher probability to be in range, there would be too many projections."""


@dataclass(frozen=True)
class _Rows:
    """Numbers arranged in `count` rows of `length`, in each block."""

    count: int
    length: int

    @classmethod
    def of(cls, numbers: int) -> _Rows:
        """Rows about as many as they are long."""
        length = max(1, math.isqrt(numbers))
        return cls(max(1, -(-numbers // length)), length)

    @property
    def size(self) -> int:
        """Numbers in a block, with what fills the last row."""
        return self.count * self.length

    @property
    def beyond(self) -> Elements:
        """Matrix [length, length + 1] from values at 0..length to those at length + 1..2 length."""
        return interpolation_beyond(self.length)

    def extended(self, values: Elements, masks: Elements) -> Elements:
        """Values [..., count, size] and masks [..., count] as polynomials' values at 0..2 length."""
        known = np.concatenate([masks[..., None], self.filled(values)], axis=-1)
        return np.concatenate([known, PrimeField.matmul(known, self.beyond.T)], axis=-1)

    def filled(self, values: Elements) -> Elements:
        """Values [..., up to size] as rows [..., count, length]."""
        short = self.size - values.shape[-1]
        padded = (
            np.concatenate([values, np.zeros((*values.shape[:-1], short), np.uint64)], axis=-1) if short else values
        )
        return padded.reshape(*values.shape[:-1], self.count, self.length)


@dataclass(frozen=True)
class Bound:
    """What is proven of a vector of `blocks` times `length` integers: that its sum of squares is at most `limit`.

    Raises:
        FieldRangeError: a limit so large that squares could wrap unseen.
    """

    blocks: int
    length: int
    limit: int

    def __post_init__(self) -> None:
        _ = self.projections

    @cached_property
    def _plan(self) -> tuple[int, int]:
        room, count = _P - self.limit, 1
        while True:
            tails = (COMPLETENESS + 1) * math.log(2) + math.log(count)  # uniform coefficients are strictly sub-Gaussian
            reach = math.ceil(math.sqrt(2 * VARIANCE * self.limit * tails))
            likely = passing(2 * reach / math.sqrt(room)) if room > 0 else 1.0
            if likely > _MOST:
                raise FieldRangeError(
                    f"vectors of length {math.sqrt(self.limit):.3g} are too long to be checked on shares in a field of "
                    f"{PrimeField.bits} bits: use fewer bits or a smaller clip"
                )
            needed = math.ceil(SOUNDNESS * math.log(2) / -math.log(likely))
            if needed <= count:
                return reach, count
            count = needed

    @property
    def reach(self) -> int:
        """E: projections lie in [-E, E)."""
        return self._plan[0]

    @property
    def projections(self) -> int:
        """How many there are."""
        return self._plan[1]

    @cached_property
    def digits(self) -> Elements:
        """What the bits of a projection plus E count."""
        return _digit_weights(2 * self.reach)

    @cached_property
    def slack(self) -> Elements:
        """What the bits of what is left to the limit count."""
        return _digit_weights(self.limit + 1)

    @property
    def bits(self) -> int:
        """Bits of all projections, one after the other and each from its lowest on, then those of the slack."""
        return self.projections * len(self.digits) + len(self.slack)

    @cached_property
    def bit_rows(self) -> _Rows:
        """Where bits lie in a block."""
        return _Rows.of(-(-self.bits // self.blocks))

    @cached_property
    def rows(self) -> _Rows:
        """Where the vector lies in a block."""
        return _Rows.of(self.length)

    @cached_property
    def _parts(self) -> dict[str, int]:
        bits, rows = self.bit_rows, self.rows
        return {
            "bits": bits.size,
            "bit squares": bits.count * (bits.length + 1),
            "bit masks": bits.count,
            "masks": rows.count,
            "squares": 2 * rows.length + 1,
            "pads": self.blocks,
        }

    @cached_property
    def proof(self) -> int:
        """Numbers of a proof in each block."""
        return sum(self._parts.values())

    @property
    def answer(self) -> int:
        """Numbers that a holder answers for each client."""
        return 2 * self.bit_rows.count + self.rows.count + 1 + self.blocks

    def _split(self, proofs: Elements) -> dict[str, Elements]:
        stops = accumulate(self._parts.values())
        sizes = zip(self._parts.items(), stops, strict=True)
        return {part: proofs[..., stop - size : stop] for (part, size), stop in sizes}

    def prove(self, project: bytes, parts: Sequence[tuple[np.ndarray, Stream]]) -> Elements:
        """The proofs of n clients, each to be shared.

        Args:
            project: the seed of coefficients, which they have in common.
            parts: of each its vector, int64 [up to blocks * length], zeros follow; and its secret stream.

        Returns:
            [n, blocks, proof]

        Raises:
            FieldRangeError: a vector is too long.
        """
        padded = np.zeros((len(parts), self.blocks * self.length), np.int64)
        for row, (vector, _) in zip(padded, parts, strict=True):
            row[: vector.size] = vector.reshape(-1)
        exact = padded.astype(np.float64)  # below 2^53, and so are all sums
        small = np.abs(exact).max(1, initial=0) ** 2 <= self.limit
        slack = np.where(small, self.limit - np.einsum("ij,ij->i", padded, padded), -1)
        if slack.min() < 0:
            length = np.linalg.norm(exact[slack.argmin()])
            raise FieldRangeError(f"a vector of length {length:.3g}: it should have been shortened")
        projected = coefficients_of(project, self.projections, padded.shape[1]) @ exact.T
        digits = digits_of(projected.T.astype(np.int64).reshape(-1) + self.reach, self.digits).reshape(len(parts), -1)
        digits = np.concatenate([digits, digits_of(slack, self.slack).reshape(len(parts), -1)], axis=1)
        return self.prove_digits(PrimeField.lift(padded), digits, [stream for _, stream in parts])

    def prove_digits(self, vectors: Elements, digits: np.ndarray, streams: Sequence[Stream]) -> Elements:
        """The proofs of `vectors` [n, blocks * length] that say that these are the `bits` [n, bits]."""
        n, blocks = len(vectors), self.blocks
        flat = np.zeros((n, blocks * self.bit_rows.size), np.uint64)
        flat[:, : self.bits] = digits
        bits = flat.reshape(n, blocks, -1)
        counts = self.bit_rows.count, self.rows.count, blocks
        drawn = np.stack([stream.elements((blocks * sum(counts),)) for stream in streams])
        split = np.split(drawn, np.cumsum(counts)[:-1] * blocks, axis=1)
        bit_masks, masks, pads = (part.reshape(n, blocks, count) for part, count in zip(split, counts, strict=True))
        values = self.bit_rows.extended(bits, bit_masks)
        unknown = np.concatenate([values[..., :1], values[..., self.bit_rows.length + 1 :]], axis=-1)
        rows = self.rows.extended(vectors.reshape(n, blocks, -1), masks)
        pads[:, 0, 0] = PrimeField.neg(PrimeField.sum_axis(np.diagonal(pads, axis1=1, axis2=2)[:, 1:], 1))
        parts = [
            bits,
            PrimeField.mul(unknown, unknown),
            bit_masks,
            masks,
            PrimeField.sum_axis(PrimeField.mul(rows, rows), 2),
            pads,
        ]
        return np.concatenate([part.reshape(n, blocks, -1) for part in parts], axis=2)


@dataclass(frozen=True)
class Challenge:
    """What is drawn from both seeds, and what follows from it: what holders answer, and whether it is good.

    Raises:
        FieldRangeError: a point at which answers would show what is proven.
    """

    bound: Bound
    project: bytes
    check: bytes

    def __post_init__(self) -> None:
        if self.point <= 2 * max(self.bound.bit_rows.length, self.bound.rows.length):
            raise FieldRangeError("a challenge at a point that holds a secret: draw another one")

    @cached_property
    def _drawn(self) -> Elements:
        stream = Stream(sha256(b"secfpp/bound/check/1\0" + self.check).digest())
        return stream.elements((2 + self.bound.projections,))

    @property
    def point(self) -> int:
        """Where polynomials are opened."""
        return int(self._drawn[0])

    @cached_property
    def _places(self) -> tuple[Elements, Elements, Elements, Elements]:
        """Weights of values at 0.. in the value at the point: of f and f^2, for bits and for the vector."""
        lengths = self.bound.bit_rows.length, self.bound.rows.length
        one, two, three, four = (_weights_at(self.point, degree * length) for length in lengths for degree in (1, 2))
        return one, two, three, four

    @cached_property
    def _relations(self) -> tuple[Elements, Elements]:
        """What vector and bits [length + size, blocks], and all squares, count in the combination of relations."""
        bound, last, weights = self.bound, self._drawn[1:2], self._drawn[2:]
        coefficients = coefficients_of(self.project, bound.projections, bound.blocks * bound.length)
        vector = small_sums(weights, coefficients).reshape(bound.blocks, bound.length)
        digits = PrimeField.mul(weights[:, None], bound.digits[None])
        bits = np.zeros(bound.blocks * bound.bit_rows.size, np.uint64)
        bits[: bound.bits] = PrimeField.neg(np.concatenate([digits.reshape(-1), PrimeField.mul(last, bound.slack)]))
        return np.concatenate([vector, bits.reshape(bound.blocks, -1)], axis=1).T, PrimeField.neg(last)

    @property
    def _constant(self) -> int:
        """What the combination has beside vector, bits and squares."""
        last, *weights = self._drawn[1:].tolist()
        return int((sum(weights) * self.bound.reach + last * self.bound.limit) % _P)

    def answers(self, vectors: Elements, proofs: Elements) -> Elements:
        """What a holder answers about n clients.

        Args:
            vectors: its shares of them [n, length].
            proofs: its shares of the proofs [n, proof].

        Returns:
            [n, answer]
        """
        bound, part = self.bound, self.bound._split(proofs)
        bits, rows = bound.bit_rows.filled(part["bits"]), bound.rows.filled(vectors)
        unknown = part["bit squares"].reshape(*bits.shape[:-1], bound.bit_rows.length + 1)
        of_bits, of_bit_squares, of_rows, of_squares = self._places
        relations, of_all_squares = self._relations
        both = PrimeField.matmul(bits, np.stack([of_bits[1:], of_bit_squares[1 : bits.shape[-1] + 1]], 1))
        beside = np.concatenate([of_bit_squares[:1], of_bit_squares[bits.shape[-1] + 1 :]])
        summed = np.zeros_like(of_squares)
        summed[1 : bound.rows.length + 1] = of_all_squares
        squares = PrimeField.matmul(part["squares"], np.stack([of_squares, summed], 1))
        combined = PrimeField.matmul(np.concatenate([vectors, part["bits"]], axis=1), relations)
        answers = [
            PrimeField.add(both[..., 0], PrimeField.mul(part["bit masks"], of_bits[:1])),
            PrimeField.add(both[..., 1], _times(unknown, beside)),
            PrimeField.add(_times(rows, of_rows[1:]), PrimeField.mul(part["masks"], of_rows[:1])),
            squares[:, :1],
            PrimeField.add(part["pads"], PrimeField.add(combined, squares[:, 1:])),
        ]
        return np.concatenate(answers, axis=1)

    def answers_each(self, parts: Sequence[tuple[Elements, Elements]]) -> list[Elements]:
        """What each of several holders answers, of vectors and proofs as `answers` takes them."""
        if len(parts) == 1:
            return [self.answers(*parts[0])]
        vectors, proofs = (np.concatenate(each) for each in zip(*parts, strict=True))
        return np.split(self.answers(vectors, proofs), np.cumsum([len(own) for own, _ in parts])[:-1])

    def good(self, opened: Elements) -> np.ndarray:
        """Of which clients the opened answers [blocks, n, answer] show what is to be proven, bool [n]."""
        bound = self.bound
        sizes = (bound.bit_rows.count, bound.bit_rows.count, bound.rows.count, 1)
        bits, bit_squares, rows, squares, combined = np.split(opened, np.cumsum(sizes), axis=-1)
        are_bits = (PrimeField.mul(bits, bits) == bit_squares).all((0, 2))
        are_squares = (PrimeField.sum_axis(PrimeField.mul(rows, rows), 2) == squares[..., 0]).all(0)
        total = PrimeField.sum_axis(np.diagonal(combined, axis1=0, axis2=2), 1)
        related = PrimeField.add(total, np.array(self._constant, np.uint64)) == 0
        found: np.ndarray = are_bits & are_squares & related
        return found


@lru_cache(maxsize=4)
def challenge(bound: Bound, project: bytes, check: bytes) -> Challenge:
    """The challenge that these seeds give; kept, since all holders of a process have the same."""
    return Challenge(bound, project, check)


def _digit_weights(count: int) -> Elements:
    """Weights of which sums of parts make 0..count-1 and nothing else: powers of two, and what is left."""
    bits = (count - 1).bit_length()
    powers = [1 << j for j in range(bits - 1)]
    return np.array([*powers, count - (1 << (bits - 1))] if bits else [], np.uint64)


def digits_of(numbers: np.ndarray, weights: Elements) -> np.ndarray:
    """The bits with which `weights` make each number, of int64 [n]: [n * weights]."""
    if not len(weights):
        return np.zeros(0, np.int64)
    top = numbers >> (len(weights) - 1) & 1
    rest = numbers - top * int(weights[-1])
    low = rest[:, None] >> np.arange(len(weights) - 1) & 1
    digits: np.ndarray = np.concatenate([low, top[:, None]], axis=1).reshape(-1)
    return digits


def _weights_at(point: int, degree: int) -> Elements:
    """Weights of the values at 0..degree of a polynomial of this degree in its value at `point` [degree + 1]."""
    before, after = [1], [1]
    for node in range(degree):
        before.append(before[-1] * (point - node) % _P)
        after.append(after[-1] * (point - degree + node) % _P)
    parts = zip(before, reversed(after), _inverse_differences(degree), strict=True)
    return np.array([a * b % _P * c % _P for a, b, c in parts], np.uint64)


@lru_cache(maxsize=64)
def _inverse_differences(degree: int) -> tuple[int, ...]:
    """The inverse of each node's product of differences from the other nodes, of 0..degree."""
    products = (math.factorial(i) * math.factorial(degree - i) * (-1) ** (degree - i) for i in range(degree + 1))
    return tuple(pow(product, -1, _P) for product in products)


def _times(values: Elements, weights: Elements) -> Elements:
    """Sums over the last axis of `values` [..., m] times `weights` [m]."""
    product: Elements = PrimeField.matmul(values, weights[:, None])[..., 0]
    return product
