"""Secret randomness that nobody knows, dealt before a computation and spent by it.

Every holder deals, and at most T of them collude:

* *Uniform elements*: c dealt ones give c - T that are uniform for everybody, by a matrix whose (c - T)-column minors
  are all invertible (M. Hirt, J. Nielsen, Robust multiparty computation with linear communication, 2006). Here it is
  [I | V] with a Cauchy matrix V, every minor of which is invertible. Whatever is dealt, an element is an element, so
  nothing has to be proven but that shares are of degree T (`secfpp.crypto.checks`).
* *Integers* are sums, *permutations* products of what T + 1 holders deal, so that one of them at least is honest. That
  permutations are such is checked too (`Deal.defects`). Integers of another size spoil the result, not the others'
  privacy; where that is too much they are not dealt but `Replicated`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.checks import bit_defects
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import Gate, Idle
from secfpp.crypto.kernel import compiled
from secfpp.crypto.randomness import Stream
from secfpp.crypto.replicated import Replicated

Kind = tuple[str, int]
"""("uniform", 0), ("integers", bits) or ("permutations", size)."""
_BLOCK = 1 << 13
UNIFORM: Kind = ("uniform", 0)


def width(kind: Kind) -> int:
    """Field elements per piece."""
    name, size = kind
    return size * size if name == "permutations" else 1


@dataclass(frozen=True)
class Deal:
    """How much of each kind the holders deal for one computation.

    Args:
        holders: c.
        threshold: T.
        demand: pieces per kind.
    """

    holders: int
    threshold: int
    demand: Mapping[Kind, int]

    def pieces(self, kind: Kind) -> int:
        """Pieces that one holder deals of a kind."""
        wanted = self.demand[kind]
        if kind == UNIFORM:
            return -(-wanted // (self.holders - self.threshold))
        return (self.threshold + 1) * -(-wanted // self.holders)

    @cached_property
    def sections(self) -> Mapping[Kind, slice]:
        """Where in a holder's dealing each kind lies."""
        sections, start = {}, 0
        for kind in sorted(self.demand):
            stop = start + self.pieces(kind) * width(kind)
            sections[kind], start = slice(start, stop), stop
        return sections

    @property
    def size(self) -> int:
        """Field elements that one holder deals."""
        return sum(self.pieces(kind) * width(kind) for kind in self.demand)

    def defects(self, dealt: Elements) -> Shared:
        """What vanishes if permutations in a dealing [size] are such, one 1 in each row and column; degree 2."""
        parts = [np.zeros(0, np.uint64)]
        for (name, size), section in self.sections.items():
            if name == "permutations":
                matrices = Shared(dealt[section].reshape(-1, size, size), 1)
                found = [bit_defects(matrices), matrices.sum(1) - 1, matrices.sum(2) - 1]
                parts += [part.values.reshape(-1) for part in found]
        return Shared(np.concatenate(parts), 2)

    def make(self, stream: Stream) -> Elements:
        """What one holder deals, before sharing, [size]."""
        parts = [_made(kind, self.pieces(kind), stream) for kind in sorted(self.demand)]
        return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0, np.uint64)


def _made(kind: Kind, count: int, stream: Stream) -> Elements:
    name, size = kind
    if name == "uniform":
        return stream.elements((count,))
    if name == "integers":
        return stream.integers(size, (count,))
    matrices: Elements = np.eye(size, dtype=np.uint64)[stream.permutations(count, size)]
    return matrices


@lru_cache(maxsize=4096)
def _cauchy(row: int, column: int, threshold: int) -> np.ndarray:
    """1 / (x_row - y_column) with x_j = T + j and y_t = t, each row scaled so that its first entry is 1."""
    node = threshold + row
    return np.array(node * pow(node - column, -1, PrimeField.p) % PrimeField.p, np.uint64)


def extract(dealt: Sequence[Elements], threshold: int, start: int = 0, stop: int | None = None) -> Elements:
    """Uniform elements, c - T for each c dealt ones [m], see the module: all [(c - T) m], or from `start` to `stop`."""
    kept, m = len(dealt) - threshold, len(dealt[-1])
    stop = kept * m if stop is None else stop
    result = np.empty(stop - start, np.uint64)
    while start < stop:
        row, first = divmod(start, m)
        block = slice(first, min(first + _BLOCK, first + stop - start, m))
        place = len(result) - (stop - start)
        total = result[place : place + block.stop - block.start]
        if compiled:
            compiled.add(dealt[row][block], dealt[kept][block], total)
            for t in range(1, threshold):
                compiled.muladd(dealt[kept + t][block], _cauchy(row, t, threshold), total, total)
        else:
            total[:] = PrimeField.add(dealt[row][block], dealt[kept][block])
            for t in range(1, threshold):
                term = PrimeField.mul(dealt[kept + t][block], _cauchy(row, t, threshold))
                total[:] = PrimeField.add(total, term)
        start += len(total)
    return result


class Material:
    """One holder's shares of what all holders dealt, taken piece by piece; a `secfpp.crypto.arithmetic.Pool`.

    Args:
        deal: what was dealt.
        received: this holder's shares of each holder's dealing, c vectors [size] in the holders' order.
        limit: the largest degree that can be opened.
        replicated: where integers come from if they are not dealt.
    """

    def __init__(
        self, deal: Deal, received: Sequence[Elements], limit: int, replicated: Replicated | None = None
    ) -> None:
        self.threshold, self.limit, self._replicated = deal.threshold, limit, replicated
        self.summands = deal.threshold + 1 if replicated is None else replicated.count
        self.gate = Gate()
        self._demand, self._taken = dict(deal.demand), Counter[Kind]()
        self._ready: dict[Kind, Sequence[Elements]] = {}
        self._raw: list[Elements] = []  # extracted as it is taken: all at once would be there twice
        for kind, section in deal.sections.items():
            parts = [vector[section] for vector in received]
            if kind == UNIFORM:
                self._raw = parts
            else:
                rows = [part.reshape(deal.threshold + 1, -1) for part in parts]
                self._ready[kind] = [  # block b's factor t is from dealer b + t
                    np.concatenate([rows[(b + t) % deal.holders][t] for b in range(deal.holders)]).reshape(
                        -1, width(kind)
                    )
                    for t in range(deal.threshold + 1)
                ]

    def _take(self, kind: Kind, shape: tuple[int, ...]) -> list[Elements]:
        count = math.prod(shape)
        ready, start = self._ready[kind], self._taken[kind]
        stop = self._taken[kind] = start + count
        taken = [factor[start:stop].reshape(*shape, width(kind)) for factor in ready]
        if stop == self._demand[kind]:
            self._ready[kind] = [factor[:0].copy() for factor in ready]  # spent: give the memory back
        return taken

    def uniform(self, shape: tuple[int, ...]) -> Shared:
        """See `Pool.uniform`."""
        wanted, start = self._demand.get(UNIFORM, 0), self._taken[UNIFORM]
        stop = self._taken[UNIFORM] = min(start + math.prod(shape), wanted)
        values = extract(self._raw, self.threshold, start, stop) if stop > start else np.zeros(0, np.uint64)
        if self._raw:  # give the memory of what is spent back: rows before the next element's, or all
            before, row = (place // len(self._raw[-1]) for place in (start, stop))
            self._raw[before:row] = [self._raw[-1][:0].copy()] * (row - before)
        if stop == wanted:
            self._raw = []
        return Shared(values.reshape(shape), 1)

    def integers(self, bits: int, shape: tuple[int, ...]) -> Shared:
        """See `Pool.integers`."""
        if self._replicated is not None:
            return Shared(self._replicated.integers(bits, shape), self.limit)
        first, *rest = self._take(("integers", bits), shape)
        for other in rest:
            first = PrimeField.add(first, other)
        return Shared(first[..., 0], 1)

    def permutations(self, size: int, count: int) -> list[Shared]:
        """See `Pool.permutations`."""
        return [Shared(f.reshape(count, size, size), 1) for f in self._take(("permutations", size), (count,))]


class Estimate:
    """A pool of zeros that counts what is taken: run a computation on it to know its demand.

    Args:
        threshold: T.
        limit: the largest degree that can be opened.
        replicated: how many integers below 2^bits make one, if they are `Replicated`; 0 if they are dealt.

    Attributes:
        demand: pieces taken, by kind.
        opened: elements that became public, counted by who runs the computation.
        decisive: how often something has to be verified, see `secfpp.crypto.verified`, counted like this.
    """

    def __init__(self, threshold: int, limit: int, replicated: int = 0) -> None:
        self.threshold, self.limit, self._replicated = threshold, limit, replicated
        self.summands = replicated or threshold + 1
        self.gate: Gate = Idle()
        self.demand: Counter[Kind] = Counter()
        self.opened, self.decisive = 0, 0

    def _take(self, kind: Kind, shape: tuple[int, ...]) -> Shared:
        self.demand[kind] += math.prod(shape)
        return Shared(np.zeros((*shape, width(kind)), np.uint64), 1)

    def uniform(self, shape: tuple[int, ...]) -> Shared:
        """See `Pool.uniform`."""
        return self._take(UNIFORM, shape)[..., 0]

    def integers(self, bits: int, shape: tuple[int, ...]) -> Shared:
        """See `Pool.integers`."""
        if self._replicated:
            return Shared(np.zeros(shape, np.uint64), self.limit)
        return self._take(("integers", bits), shape)[..., 0]

    def permutations(self, size: int, count: int) -> list[Shared]:
        """See `Pool.permutations`."""
        factor = self._take(("permutations", size), (count,)).reshape(count, size, size)
        return [factor] * (self.threshold + 1)
