"""One holder's side of a computation on shares.

A `Shared` is this holder's share of an array, with the degree of the polynomial it lies on, in multiples of the
threshold T: sums keep the degree, products add it. A *computation* is a generator that yields arrays to be opened and
is resumed with their public values; everything that is yielded at once is opened in one exchange, and `together` runs
computations side by side. Up to `limit` T + 1 holders have to answer, so no degree may pass `limit`.

Assumptions: at most T holders collude, and opened values are uniform masks plus a secret (`Masked`: then they say
nothing), or outputs. Masks that are made of random signs are such also if the server tells false roots, see `gated`.
Other values that it tells are believed, unless they are verified (`secfpp.crypto.verified`) before anything is opened
that is not `Masked`.

Degree reduction opens v + r for a random shared r and subtracts the share of r: one public value, so that survivors
cannot disagree (I. Damgard, J. Nielsen, Scalable and unconditionally secure multiparty computation, 2007, with the
opening masked by pairwise zero-sharings instead of a second sharing of r).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import SUMS, Gate
from secfpp.crypto.kernel import compiled
from secfpp.errors import ProtocolError

R = TypeVar("R")
S = TypeVar("S")
U = TypeVar("U")
V = TypeVar("V")
_BLOCK = 1 << 13


class Shared:
    """This holder's share of an array of field elements.

    Args:
        values: the share, uint64 of the array's shape.
        degree: of the polynomial, in multiples of T; 0 is public.
    """

    __slots__ = ("degree", "values")

    def __init__(self, values: Elements, degree: int) -> None:
        self.values, self.degree = values, degree

    @classmethod
    def public(cls, integers: np.ndarray) -> Shared:
        """A public array of signed integers, as every holder's share."""
        return cls(PrimeField.lift(integers), 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.values.shape

    def __repr__(self) -> str:
        return f"Shared(shape={self.shape}, degree={self.degree})"

    def __add__(self, other: Shared | int) -> Shared:
        other = _operand(other)
        return Shared(PrimeField.add(self.values, other.values), max(self.degree, other.degree))

    def __sub__(self, other: Shared | int) -> Shared:
        other = _operand(other)
        return Shared(PrimeField.sub(self.values, other.values), max(self.degree, other.degree))

    def __rsub__(self, other: int) -> Shared:
        return _operand(other) - self

    def __mul__(self, other: Shared | int) -> Shared:
        other = _operand(other)
        return Shared(PrimeField.mul(self.values, other.values), self.degree + other.degree)

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other: Shared) -> Shared:
        return Shared(PrimeField.matmul(self.values, other.values), self.degree + other.degree)

    def __iter__(self) -> Iterator[Shared]:
        return (Shared(value, self.degree) for value in self.values)

    def __getitem__(self, index: Any) -> Shared:
        return Shared(self.values[index], self.degree)

    def sum(self, axis: int) -> Shared:
        """Sum over one axis."""
        return Shared(PrimeField.sum_axis(self.values, axis), self.degree)

    def reshape(self, *shape: int) -> Shared:
        """The same elements in another shape."""
        return Shared(self.values.reshape(shape), self.degree)

    def transpose(self, *axes: int) -> Shared:
        """The same elements with other axes."""
        return Shared(self.values.transpose(axes), self.degree)

    def weighed(self) -> Shared:
        """The sum over j of 2^j times the j-th of up to 61 rows."""
        return Shared(PrimeField.weighed(self.values), self.degree)

    def turn(self, power: int) -> Shared:
        """Times 2^power."""
        return Shared(PrimeField.turn(self.values, power), self.degree)


Computation = Generator[Sequence[Shared], Sequence[Elements], R]


class Pool(Protocol):
    """Where a computation takes its secret randomness from; see `secfpp.crypto.material`.

    Attributes:
        threshold: T.
        limit: the largest degree that can be opened, in multiples of T.
        summands: of how many secret integers each of `integers` is the sum.
        gate: what it knows of random signs, see `gated`.
    """

    threshold: int
    limit: int
    summands: int
    gate: Gate

    def uniform(self, shape: tuple[int, ...]) -> Shared:
        """Uniform field elements, degree 1."""
        ...

    def integers(self, bits: int, shape: tuple[int, ...]) -> Shared:
        """Sums of `summands` uniform integers 0..2^bits-1, of any degree: to be opened, with something under them."""
        ...

    def permutations(self, size: int, count: int) -> Sequence[Shared]:
        """T + 1 factors [count, size, size], degree 1; their matrix product is a uniform permutation matrix."""
        ...


def concatenate(arrays: Sequence[Shared], axis: int = -1) -> Shared:
    """Arrays joined along an axis."""
    return Shared(np.concatenate([array.values for array in arrays], axis), max(array.degree for array in arrays))


def stack(arrays: Sequence[Shared], axis: int = -1) -> Shared:
    """Arrays of equal shape along a new axis."""
    return Shared(np.stack([array.values for array in arrays], axis), max(array.degree for array in arrays))


class Masked(Shared):
    """To be opened, and uniform whatever holders were told before: it says nothing by itself."""

    __slots__ = ()


class Square(Masked):
    """The square of a uniform element, to be opened: the public value is its inverse square root."""

    __slots__ = ()


def signs(shape: tuple[int, ...], pool: Pool) -> Computation[Shared]:
    """Uniform secret elements of {-1, 1}, degree 1; one exchange.

    A uniform a over the public square root of a^2 (Damgard et al., 2006): -1 or 1 whatever was dealt, and a^2
    does not tell which. If the root that is told is false it is something else, so what is opened later and relies on
    it has to be `gated`.
    """
    a = pool.uniform(shape)
    (root,) = yield [Square(PrimeField.mul(a.values, a.values), 2 * a.degree)]
    made = Shared(PrimeField.mul(a.values, root), a.degree)
    pool.gate.watch((made * made - 1).values, root)
    return made


def decisive(values: Sequence[Shared]) -> bool:
    """Whether what is opened, or that a computation is over, can say something that depends on what was told before."""
    return not values or not all(isinstance(value, Masked) for value in values)


def gated(value: Shared, pool: Pool) -> Shared:
    """`value`, to be opened, if all random signs so far are signs; else something uniform. See `secfpp.crypto.gate`.

    The degree is at least 3.

    Raises:
        ProtocolError: later on, if signs are made after this.
    """
    result, uniform = value, pool.uniform((SUMS, *value.shape))
    for total, mask in zip(pool.gate.use(), uniform, strict=True):
        result = result + Shared(total, 2) * mask
    return result


def inverse_square_root(squares: Elements) -> Elements:
    """An inverse square root of non-zero squares, elementwise: y^(2^59 - 1), since p = 3 modulo 4.

    Raises:
        ProtocolError: a square is 0, which happens to honest parties by chance of 2^-61.
    """
    if not np.all(squares):
        raise ProtocolError("the square of a random element is 0: run the round again")
    flat, roots = squares.reshape(-1), np.empty(squares.size, np.uint64)
    if compiled:
        compiled.root(np.ascontiguousarray(flat), roots)
        return roots.reshape(squares.shape)
    for start in range(0, flat.size, _BLOCK):
        roots[start : start + _BLOCK] = _ones_power(flat[start : start + _BLOCK], PrimeField.bits - 2)
    return roots.reshape(squares.shape)


def _ones_power(y: Elements, ones: int) -> Elements:
    """The power 2^ones - 1 of y, by doubling the number of ones."""
    if ones == 1:
        return y
    half = _ones_power(y, ones // 2)
    power = half
    for _ in range(ones // 2):
        power = PrimeField.mul(power, power)
    power = PrimeField.mul(power, half)
    return PrimeField.mul(PrimeField.mul(power, power), y) if ones % 2 else power


def opened(values: Sequence[Shared]) -> Computation[list[Elements]]:
    """The public values; one exchange."""
    return list((yield values))


def lowered(values: Sequence[Shared], pool: Pool) -> Computation[list[Shared]]:
    """The same secrets with degree 1; one exchange, none if there is nothing to do."""
    result = list(values)
    del values  # of high degree they are large, and not needed while the exchange lasts
    masks = {i: pool.uniform(value.shape) for i, value in enumerate(result) if value.degree > 1}
    if masks:
        for i, mask in masks.items():
            result[i] = result[i] + mask
        public = yield [Masked(result[i].values, result[i].degree) for i in masks]
        for (i, mask), value in zip(masks.items(), public, strict=True):
            result[i] = Shared(PrimeField.sub(value, mask.values), 1)
    return result


def fitting(value: Shared, others: int, pool: Pool) -> Computation[Shared]:
    """`value`, with its degree lowered if a product with factors of degree `others` together would pass the limit."""
    if value.degree + others > pool.limit:
        (value,) = yield from lowered([value], pool)
    return value


def product(factors: Sequence[Shared], pool: Pool, *, matrices: bool = False) -> Computation[Shared]:
    """The product of all factors, elementwise or as matrices; as many exchanges as the limit makes necessary."""
    waiting = list(factors)
    while len(waiting) > 1:
        results = []
        for start in range(0, len(waiting), pool.limit):
            result, *rest = waiting[start : start + pool.limit]
            for factor in rest:
                result = result @ factor if matrices else result * factor
            results.append(result)
        waiting = results if len(results) == 1 else (yield from lowered(results, pool))
    return waiting[0]


def together(computations: Sequence[Computation[R]]) -> Computation[list[R]]:
    """Run computations side by side, opening in one exchange whatever they want opened; their results in order."""
    results: dict[int, R] = {}
    waiting: dict[int, Sequence[Shared]] = {}

    def advance(i: int, values: Sequence[Elements] | None) -> None:
        waiting.pop(i, None)
        try:
            waiting[i] = next(computations[i]) if values is None else computations[i].send(values)
        except StopIteration as stop:
            results[i] = stop.value

    for i in range(len(computations)):
        advance(i, None)
    while waiting:
        asked = sorted(waiting)
        counts = [len(waiting[i]) for i in asked]
        values = yield [value for i in asked for value in waiting[i]]
        position = 0
        for i, count in zip(asked, counts, strict=True):
            advance(i, values[position : position + count])
            position += count
        del values  # not needed during the next exchange
    return [results[i] for i in range(len(computations))]


@overload
def side_by_side(one: Computation[R], two: Computation[S], /) -> Computation[tuple[R, S]]: ...


@overload
def side_by_side(one: Computation[R], two: Computation[S], three: Computation[U], /) -> Computation[tuple[R, S, U]]: ...


@overload
def side_by_side(
    one: Computation[R], two: Computation[S], three: Computation[U], four: Computation[V], /
) -> Computation[tuple[R, S, U, V]]: ...


def side_by_side(*computations: Computation[Any]) -> Computation[tuple[Any, ...]]:
    """Computations of different kinds run `together`."""
    return tuple((yield from together(computations)))


class Future(Generic[R]):
    """A computation whose result is used by others that run beside it and are listed behind it.

    Args:
        computation: what `run` runs.
    """

    def __init__(self, computation: Computation[R]) -> None:
        self._computation = computation
        self._result: list[R] = []

    def run(self) -> Computation[R]:
        """Run the computation, once."""
        result = yield from self._computation
        self._result.append(result)
        return result

    @property
    def result(self) -> R:
        """What came out.

        Raises:
            ProtocolError: nothing yet.
        """
        if not self._result:
            raise ProtocolError("the result of a computation is used before it is there: it takes more exchanges")
        return self._result[0]


def require_degree(values: Sequence[Shared], limit: int) -> None:
    """Refuse to open what the holders could not decode.

    Raises:
        ProtocolError: a degree above `limit`.
    """
    worst = max((value.degree for value in values), default=0)
    if worst > limit:
        raise ProtocolError(f"an opening of degree {worst} T, at most {limit} T can be decoded: lower it before")


def _operand(other: Shared | int) -> Shared:
    return other if isinstance(other, Shared) else _constant(other)


@lru_cache(maxsize=256)
def _constant(number: int) -> Shared:
    values = PrimeField.lift(np.array(number))
    values.setflags(write=False)
    return Shared(values, 0)
