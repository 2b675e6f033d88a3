"""All holders of a computation on shares in one process, in step and without a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared, Square, inverse_square_root, require_degree
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import Gate
from secfpp.crypto.material import Deal, Kind, Material
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode, weights_at_zero
from secfpp.secure.circuits.plan import estimated

Circuit = Callable[[Shared, Pool], Computation[Any]]


def stream(*labels: object) -> Stream:
    """The same stream for the same labels."""
    return Stream(sha256(repr(labels).encode()).digest())


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        results: of each holder.
        openings: for each exchange the public values.
        degrees: for each exchange the declared degrees of what was opened.
    """

    results: list[Any]
    openings: list[list[Elements]]
    degrees: list[list[int]]

    @property
    def result(self) -> Any:
        """The first holder's result."""
        return self.results[0]

    def secret(self, degree_limit: int, threshold: int) -> Elements:
        """What the holders' results, shares of one array, stand for."""
        shares: list[Shared] = self.results
        assert max(share.degree for share in shares) <= degree_limit
        return recombined([share.values for share in shares], shares[0].degree * threshold + 1)


def recombined(shares: list[Elements], needed: int) -> Elements:
    """The secret, from the first and from the last `needed` shares: they have to agree."""
    everybody = range(len(shares))
    one, other = (_at_zero(shares, tuple(holders)) for holders in (everybody[:needed], everybody[-needed:]))
    np.testing.assert_array_equal(one, other, "the shares are not of the degree that they claim")
    return one


def _at_zero(shares: list[Elements], holders: tuple[int, ...]) -> Elements:
    weights = weights_at_zero(holders)
    return PrimeField.sum(
        (PrimeField.mul(shares[h], w) for h, w in zip(holders, weights, strict=True)), shares[0].shape
    )


def evaluate(
    circuit: Circuit,
    inputs: np.ndarray,
    *,
    holders: int = 6,
    threshold: int = 1,
    limit: int = 5,
    seed: object = 0,
    away: Mapping[int, Collection[int]] | None = None,
    wanted: Mapping[Kind, int] | None = None,
) -> Evaluation:
    """Evaluate `circuit` on shares of the signed integers `inputs`.

    Args:
        circuit: from a holder's share of the inputs and its pool to a computation.
        inputs: int64.
        holders: c.
        threshold: T.
        limit: the largest degree that may be opened.
        seed: of all randomness.
        away: which holders do not answer in an exchange; they are back in the next.
        wanted: the circuit's demand for randomness, if it is known.
    """
    randomness = stream("evaluate", seed)
    code = LagrangeCode(holders, threshold)
    wanted = estimated(circuit, inputs.shape, threshold, limit).demand if wanted is None else wanted  # type: ignore[arg-type]
    deal = Deal(holders, threshold, wanted)
    dealt = [code.encode(deal.make(randomness)[None], randomness) for _ in range(holders)]
    shares = code.encode(PrimeField.lift(inputs)[None], randomness)
    computations = [
        circuit(Shared(shares[h], 1), Material(deal, [vector[h] for vector in dealt], limit)) for h in range(holders)
    ]
    evaluation = Evaluation([None] * holders, [], [])
    pending = _advanced(computations, None, evaluation)
    while pending:
        gone = (away or {}).get(len(evaluation.openings), ())
        present = [h for h in range(holders) if h not in gone]
        for values in pending:
            require_degree(values, limit)
        values = []
        for of in zip(*pending, strict=True):
            needed = max(of[0].degree * threshold + 1, 1)
            assert len(present) >= needed
            values.append(_opened([part.values for part in of], present, needed, isinstance(of[0], Square)))
        evaluation.openings.append(values)
        evaluation.degrees.append([value.degree for value in pending[0]])
        pending = _advanced(computations, values, evaluation)
    return evaluation


def _opened(shares: list[Elements], present: list[int], needed: int, square: bool) -> Elements:
    """The public value, from as many present holders as the degree needs: from the first and from the last."""
    one, other = (_at_zero(shares, tuple(some)) for some in (present[:needed], present[-needed:]))
    np.testing.assert_array_equal(one, other, "the shares are not of the degree that they claim")
    return inverse_square_root(one) if square else one


def _advanced(computations: list[Computation[Any]], values: Any, evaluation: Evaluation) -> list[Any]:
    waiting = []
    for h, computation in enumerate(computations):
        try:
            waiting.append(next(computation) if values is None else computation.send(values))
        except StopIteration as stop:
            evaluation.results[h] = stop.value
    assert len(waiting) in (0, len(computations)), "holders are not in step"
    return waiting


class Apart:
    """A pool shared by computations side by side, each of which has such a view with a gate of its own."""

    def __init__(self, pool: Pool) -> None:
        self.threshold, self.limit, self.summands = pool.threshold, pool.limit, pool.summands
        self.gate = type(pool.gate)()
        self.uniform, self.integers, self.permutations = pool.uniform, pool.integers, pool.permutations


class ChosenPool:
    """Randomness that is no secret, for `in_the_clear`: signs and integers as given, the rest from a stream.

    Args:
        threshold: T.
        limit: the largest degree that may be opened.
        signs: what `uniform` gives for an array of this shape, -1 and 1.
        integers: what the T + 1 integers of each sum are: `lowest`, `highest` or `random`.
    """

    def __init__(self, threshold: int, limit: int, signs: np.ndarray, integers: str, seed: object = 0) -> None:
        self.threshold, self.limit, self.gate = threshold, limit, Gate()
        self._signs, self._integers, self._stream = signs, integers, stream("chosen", seed)

    def uniform(self, shape: tuple[int, ...]) -> Shared:
        return Shared(PrimeField.lift(self._signs) if shape == self._signs.shape else self._stream.elements(shape), 1)

    def integers(self, bits: int, shape: tuple[int, ...]) -> Shared:
        total = np.zeros(shape, np.uint64)
        for _ in range(self.threshold + 1):
            drawn = self._stream.integers(bits, shape)
            edge = {"lowest": 0 * drawn, "highest": 0 * drawn + np.uint64((1 << bits) - 1)}
            total = PrimeField.add(total, edge.get(self._integers, drawn))
        return Shared(total, 1)

    def permutations(self, size: int, count: int) -> list[Shared]:
        raise NotImplementedError


def in_the_clear(circuit: Circuit, inputs: np.ndarray, pool: Pool) -> Any:
    """Evaluate `circuit` by a single party that sees everything: every share is the secret itself."""
    computation = circuit(Shared(PrimeField.lift(inputs), 1), pool)
    values: list[Elements] | None = None
    try:
        while True:
            wanted = next(computation) if values is None else computation.send(values)
            require_degree(wanted, pool.limit)
            values = [inverse_square_root(v.values) if isinstance(v, Square) else v.values for v in wanted]
    except StopIteration as stop:
        return stop.value
