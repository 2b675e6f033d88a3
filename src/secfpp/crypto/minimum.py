"""The minimum of several shared numbers, as a one-hot vector that nobody sees.

From all pairwise comparisons count the defeats of each candidate; only the minimum has none. Open
rho_k loss_(k xor v) for a secret uniform rotation v and random rho: exactly one zero, at a uniform place, and
uniform values elsewhere. The one-hot vector of the minimum is then a local selection from that of v.

Material for minima is first drawn (`DrawnRotations`), at no input, then expanded to one-hot vectors (`Rotations`).

The rotated minimum is this project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared, concatenate, fitting, lowered, opened, signs
from secfpp.crypto.comparison import characters, one_hot, walsh_hadamard
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.kernel import compiled


@dataclass(frozen=True)
class DrawnRotations:
    """Drawn secret rotations for minima over up to 2^bits candidates.

    Args:
        signs: of the bits of the rotations [bits, count]; None leaves them out, so that opening tells which
            candidate is the minimum.
        rho: uniform elements [2^bits, count].
        scaling: whether products with these are prepared, see `prepare`.
    """

    signs: Shared | None
    rho: Shared
    scaling: bool = True

    @classmethod
    def prepare(
        cls, candidates: int, count: int, pool: Pool, *, hidden: bool = True, scaling: bool = True
    ) -> Computation[DrawnRotations]:
        """Material for `count` minima of `candidates` numbers each: one exchange here, and one in `expand`.

        Args:
            candidates: how many numbers.
            count: how many minima.
            pool: the randomness.
            hidden: without, opening tells which candidate is the minimum.
            scaling: without, much less is opened, and defeats may be of degree `limit` - 2 at most.
        """
        bits = max(candidates - 1, 1).bit_length()
        rho = pool.uniform((1 << bits, count))
        return cls((yield from signs((bits, count), pool)) if hidden else None, rho, scaling)

    def expand(self, pool: Pool) -> Computation[Rotations]:
        """Prepare the one-hot vectors."""
        if self.signs is None:
            fixed = np.zeros(self.rho.shape, np.uint64)
            fixed[0] = 1
            one = Shared(fixed, 0)
            return Rotations(one, self.rho, self.rho[:, None] * one)
        bits = len(self.signs.values)
        products = yield from characters(self.signs, pool)
        if not self.scaling:
            (products,) = yield from lowered([products], pool)
            return Rotations(Shared(one_hot(products.values, bits), 1), self.rho, None)
        products = yield from fitting(products, 1, pool)
        products, scaled = yield from lowered([products, self.rho[:, None] * products], pool)
        scaled = concatenate([self.rho[:, None], scaled], axis=1).transpose(1, 0, 2)  # [2^bits, k, count]
        return Rotations(
            Shared(one_hot(products.values, bits), 1),
            self.rho,
            Shared(walsh_hadamard(scaled.values, bits), 1).transpose(1, 0, 2),
        )


@dataclass(frozen=True)
class Rotations:
    """Expanded secret rotations.

    Args:
        one_hot: of the rotation [2^bits, count].
        rho: uniform elements [2^bits, count].
        scaled: rho_k times the one-hot vector, [k, 2^bits, count]; None computes it when it is opened.
    """

    one_hot: Shared
    rho: Shared
    scaled: Shared | None

    def minimum(self, loss: Shared, pool: Pool) -> Computation[tuple[Shared, np.ndarray]]:
        """One-hot vectors of the candidates without a defeat; one exchange.

        Args:
            loss: defeats [candidates, count], of degree at most `limit` - 1, or - 2 if nothing is scaled ahead.
            pool: the randomness.

        Returns:
            One-hot vectors [candidates, count], and where there was exactly one such candidate, bool [count]: public,
            and always true if the defeats are those of a strict order.
        """
        place, decided = yield from self.place(loss, pool)
        index = place ^ np.arange(loss.shape[0])[:, None]
        return Shared(np.take_along_axis(self.one_hot.values, index, 0), self.one_hot.degree), decided

    def place(self, loss: Shared, pool: Pool) -> Computation[tuple[np.ndarray, np.ndarray]]:
        """Where the candidate without a defeat is after the rotation, int64 [count]; else see `minimum`."""
        loss = yield from fitting(loss, 1 if self.scaled is not None else 2, pool)
        table = self.one_hot if self.scaled is None else self.scaled
        total = Shared(_convolved(table.values, loss.values), table.degree + loss.degree)
        (public,) = yield from opened([total if self.scaled is not None else self.rho * total])
        found = public == 0
        return found.argmax(0), found.sum(0) == 1

    def blending(self, values: Shared, pool: Pool) -> Computation[Shared]:
        """What `blended` needs, before the minimum is known; one exchange.

        The sum over v of one_hot_v values_(v xor place) is a convolution: the Walsh-Hadamard transform of the products
        of the transforms of both.

        Args:
            values: of each candidate [candidates, count, ...], degree 1.
            pool: the randomness.

        Returns:
            The products [2^bits, count, ...].
        """
        size, more = len(self.one_hot.values), values.values.ndim - 2
        bits = size.bit_length() - 1
        padded = np.zeros((size, *values.shape[1:]), np.uint64)
        padded[: values.shape[0]] = values.values
        factors = Shared(walsh_hadamard(self.one_hot.values, bits, whole=True), self.one_hot.degree)
        transformed = Shared(walsh_hadamard(padded, bits, whole=True), values.degree)
        products = factors[1:].reshape(size - 1, *factors.shape[1:], *[1] * more) * transformed[1:]
        (rest,) = yield from lowered([products], pool)  # the first factor is 1
        return concatenate([transformed[:1], rest], axis=0)

    def blended(self, products: Shared, place: np.ndarray) -> Shared:
        """The value [count, ...] of the candidate at each `place`, from what `blending` gave."""
        size = len(self.one_hot.values)
        index = np.broadcast_to(place.reshape(1, -1, *[1] * (products.values.ndim - 2)), (1, *products.shape[1:]))
        every = walsh_hadamard(products.values, size.bit_length() - 1)
        return Shared(np.take_along_axis(every, index, 0)[0], products.degree)


def _convolved(table: Elements, loss: Elements) -> Elements:
    """The sums over s of table_(p xor s) loss_s [2^bits, count] for every p; who does not exist has one defeat.

    Args:
        table: [2^bits, count], or one for every p [2^bits, 2^bits, count].
        loss: [candidates, count].
    """
    size, candidates = len(table), len(loss)
    total = np.zeros((size, table.shape[-1]), np.uint64)
    if compiled:
        compiled.convolve(np.ascontiguousarray(table), np.ascontiguousarray(loss), total, size)
        return total
    places = np.arange(size)
    for s in range(size):
        term = table[places ^ s] if table.ndim == 2 else table[places, places ^ s]
        total = PrimeField.add(total, PrimeField.mul(term, loss[s]) if s < candidates else term)
    return total


def defeats(beats: Shared, candidates: int) -> Shared:
    """Defeats of each candidate [candidates, ...].

    Args:
        beats: [pairs, ...], 1 where t is strictly better than s, for s < t in the order of ``numpy.triu_indices``; so
            ties are won by the lower number.
        candidates: how many.
    """
    won, weights = _counting(candidates)
    flat = PrimeField.matmul(weights, beats.values.reshape(len(beats.values), -1))
    return Shared(PrimeField.add(flat, won).reshape(candidates, *beats.shape[1:]), beats.degree)


@lru_cache(maxsize=64)
def _counting(candidates: int) -> tuple[Elements, Elements]:
    """Of how many pairs each candidate is the second [candidates, 1], and what each of `beats` counts for it."""
    first, second = np.triu_indices(candidates, 1)
    every = np.arange(candidates)[:, None]
    weights = (first == every).astype(np.int64) - (second == every)
    return np.arange(candidates, dtype=np.uint64)[:, None], PrimeField.lift(weights)
