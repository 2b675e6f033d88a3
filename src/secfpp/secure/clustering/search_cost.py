"""What a search on shares costs up to where its runs end, from public numbers alone; see `secfpp.secure.circuits.cost`.

Symbols: c holders, of whom T may collude; n clients; L T is the largest degree that is opened; R runs begin for each K,
F of them go on to all I iterations. A *comparison* is one sign of a difference of scores; an *opening* is one field
element, 8 bytes, that becomes public.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, zip_longest

from secfpp.crypto.channel import ENVELOPE_OVERHEAD
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.material import UNIFORM, Kind
from secfpp.secure import message_sizes as sizes
from secfpp.secure.circuits.cost import CircuitCost, Role
from secfpp.secure.circuits.tally import DIGEST_BYTES
from secfpp.secure.clustering.iterations import Iterations
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.search import Search


@dataclass(frozen=True)
class OnSharesCost(CircuitCost):
    """Costs of one computation of a clusterer.

    Args:
        settings: the clusterer.
        clients: n, all of whom answer.
    """

    settings: OnShares
    clients: int

    @property
    def n(self) -> int:
        """Clients."""
        return self.clients

    @property
    def limit(self) -> int:
        """The largest degree that is opened, in multiples of T."""
        return self.settings.limit


@dataclass(frozen=True)
class SearchCost(OnSharesCost):
    """Costs of one search. Where only K = 1 is tried nothing is sent, and all costs are 0."""

    @property
    @abstractmethod
    def circuit(self) -> Iterations:
        """What is computed."""

    @property
    @abstractmethod
    def outcome(self) -> list[int]:
        """Openings in every exchange after the last iteration."""

    @property
    @abstractmethod
    def ending(self) -> int:
        """How many of these exchanges open something decisive, see `CircuitCost.decisive`."""

    @property
    def decisive(self) -> int:
        """Choices of each iteration, which runs go on, and the end."""
        return self.search.iterations + bool(self.contests) + self.ending

    @property
    @abstractmethod
    def shown(self) -> int:
        """Openings that are outputs."""

    @property
    def beside(self) -> list[list[int]]:
        """Openings in every exchange of what runs beside all this from its start."""
        return []

    @property
    def search(self) -> Search:
        """The public candidates."""
        return self.circuit.search

    @cached_property
    def first_comparisons(self) -> int:
        """Comparisons of the first iteration, to seed points: runs that have two of them in common share those."""
        runs = (run for seeds in self.search.seeds.values() for run in seeds.tolist())
        return self.n * len({pair for run in runs for pair in combinations(run, 2)})

    @property
    def contest_comparisons(self) -> int:
        """Those of the costs of all pairs of runs of which one goes on."""
        return sum(rows * size * (size - 1) // 2 for _, rows, size in self.contests)

    @property
    def later_comparisons(self) -> int:
        """Those of all other iterations: n F K (K - 1) / 2 in each, summed over K."""
        return (self.search.iterations - 1) * self._per_iteration

    @property
    def comparisons(self) -> int:
        """All comparisons."""
        return sum(count for _, count in self.compared)

    @property
    def gated(self) -> int:
        """What says nothing if the server told false roots, see `secfpp.crypto.gate`."""
        return self.comparisons

    @property
    def compared(self) -> list[tuple[Comparator, int]]:
        """Comparisons by kind."""
        return self._early

    @property
    def _early(self) -> list[tuple[Comparator, int]]:
        circuit = self.circuit
        counts = self.first_comparisons, self.contest_comparisons, self.later_comparisons
        compared = zip((circuit.nearer, circuit.contest, circuit.later), counts, strict=True)
        return [(comparator, count) for comparator, count in compared if count]

    @cached_property
    def opened(self) -> tuple[int, ...]:
        """Openings in every exchange of the computation, in order."""
        if not self._begun:
            return ()
        first = [sum(points * size_of(k) for k, points in self._begun)]
        choices = [sum(points * size_of(k) for k, points in self.kept)]
        lowered = [sum(points * k for k, points in self.kept)] if self.hidden and self.high else []
        count, rest = self._per_iteration, self.search.iterations - 1
        iteration = [*lowered, count, *self.combined(self.circuit.later, count), *choices]
        start = (*self._prepared(), *self._started(), *first)
        return tuple(side_by_side([*start, *self.contested, *iteration * rest, *self.outcome], *self.beside))

    @property
    def exchanges(self) -> int:
        """Greeting, randomness for a committee if one is drawn, dealing, and those of the computation."""
        return len(self.opened) and super().exchanges

    @cached_property
    def demand(self) -> dict[Kind, int]:
        """Pieces of randomness by kind.

        A comparison takes an integer, an output nothing, anything else that is opened a uniform element; what is gated
        takes two more.
        """
        wanted = Counter[Kind](
            {UNIFORM: sum(self.opened) - self.comparisons - self.shown + 2 * self.gated + self.verified}
        )
        for comparator, count in () if self.active else self.compared:
            wanted["integers", comparator.k] += count
        for k, points in self.kept if self.ordered else []:
            wanted["permutations", k] = points // self.n
        return dict(wanted)

    @cached_property
    def dealt(self) -> int:
        """Field elements of randomness that a holder shares on top."""
        return super().dealt

    def sent(self, role: Role) -> int:
        """Bytes that a client sends, exactly."""
        return super().sent(role) if self.opened else 0

    def received(self, role: Role) -> int:
        """Bytes of keys, envelopes and opened values that a client receives; texts and framing come on top."""
        return super().received(role) if self.opened else 0

    @property
    def largest_message(self) -> int:
        """Bytes of the largest message but for texts and framing: what a holder deals, or gets of that, or an opening.

        `secfpp.protocol.wire.MAX_MESSAGE` is as much as fits. Who only verifies is told several openings at once, which
        are fewer elements than were dealt for them.
        """
        if not self.opened:
            return 0
        envelope, inputs = sizes.ELEMENT * self.dealt, sizes.ELEMENT * self.shared + ENVELOPE_OVERHEAD
        received = (self.holders - 1) * envelope + (self.n - 1) * inputs
        received += self.active * self.n * self.holders * DIGEST_BYTES
        return max((self.holders - 1) * (envelope + inputs), received, sizes.ELEMENT * max(self.opened))

    @property
    def memory(self) -> int:
        """Bytes of memory that one process takes, at its peak, to play all parties: on top of what it has before.

        Measured, not derived: what holders deal to each other is there 1.65 times at once and everything opened seven
        times, beside 32 MiB. See docs/costs.md.
        """
        dealt, opened = self.holders * self.largest_message, sizes.ELEMENT * sum(self.opened)
        return int(1.65 * dealt + 7 * opened + 2**25) if self.opened else 0

    @property
    def hidden(self) -> bool:
        """Whether assignments stay shared."""
        return self.circuit.reveal == "partition"

    @property
    def ordered(self) -> bool:
        """Whether clusters are put in secret orders."""
        return self.hidden and self.circuit.ordered

    @property
    def high(self) -> bool:
        """Whether the threshold is."""
        return self.settings.threshold == "high"

    @property
    def _begun(self) -> list[tuple[int, int]]:
        """K and the points of all its runs, R n, for K > 1."""
        return [(k, len(seeds) * self.n) for k, seeds in self.search.seeds.items() if k > 1]

    @property
    def kept(self) -> list[tuple[int, int]]:
        """K and the points of those of its runs that go on, F n, for K > 1."""
        return [(k, len(self.search.groups(k)) * self.n) for k, _ in self._begun]

    @property
    def contests(self) -> list[tuple[int, int, int]]:
        """K, how many groups of runs there are and their size, if it is above 1."""
        shapes = [(k, *self.search.groups(k).shape) for k, _ in self._begun]
        return [(k, rows, size) for k, rows, size in shapes if size > 1]

    @property
    def _per_iteration(self) -> int:
        return sum(points * k * (k - 1) // 2 for k, points in self.kept)

    def _prepared(self) -> list[int]:
        """Inner products, random bits of comparisons and choices, and secret orders of clusters."""
        bits = sum(comparator.w * count for comparator, count in self._early)
        choices = [bits_of(k) * points for k, points in self._chosen]
        products = self.n * (self.n + (1 if self.search.self_products else -1)) // 2
        opened = [[products + bits + (sum(choices) if self.hidden else 0)]]
        for k, points in self.kept if self.ordered else []:
            entries, count, orders = points // self.n * k * k, self.threshold + 1, []
            while count > 1:  # the product of `count` permutation matrices, in groups of L
                orders.append(entries * (count // self.limit + (count % self.limit > 1)))
                count = -(-count // self.limit)
            opened.append(orders)
        return side_by_side(*opened)

    def _started(self) -> list[int]:
        """The digits of random numbers and one-hot choices, beside the first comparisons."""
        opened = [[self.first_comparisons, *self.combined(self.circuit.nearer, self.first_comparisons)]]
        opened += [self.digits(comparator, count) for comparator, count in self._early]
        rest, ahead = self.search.iterations - 1, self.circuit.scaling
        for (k, begun), (_, kept) in zip(self._begun, self.kept, strict=True) if self.hidden else []:
            opened += [self.turned(k, begun, scaling=ahead), self.turned(k, rest * kept)]
        return side_by_side(*opened)

    @property
    def _chosen(self) -> list[tuple[int, int]]:
        """K and how often one of so many candidates is chosen in all iterations."""
        rest = self.search.iterations - 1
        return [(k, begun + rest * kept) for (k, begun), (_, kept) in zip(self._begun, self.kept, strict=True)]

    @property
    def contested(self) -> list[int]:
        """Which runs go on."""
        count = self.contest_comparisons
        if not count:
            return []
        shown = [sum(rows * size for _, rows, size in self.contests)]
        return [count, *self.combined(self.circuit.contest, count), *shown]

    def turned(self, candidates: int, count: int, scaling: bool = True) -> list[int]:
        """Openings for `count` one-hot choices among so many candidates, after their random signs.

        With `scaling`, also for their products with uniform elements.
        """
        bits, size = bits_of(candidates), size_of(candidates)
        ahead, degree = self._characters(bits)
        if not scaling:
            return [count * each for each in (*ahead, (size - 1) * (degree > 1))]
        if degree + 1 > self.limit:
            ahead, degree = [*ahead, size - 1], 1
        return [count * each for each in (*ahead, (size - 1) * (size + (degree > 1)))]

    def _characters(self, bits: int) -> tuple[list[int], int]:
        """Openings for the products of all subsets of some bits, and the degree of those products."""
        if bits <= self.limit:
            return [], bits
        halves = bits // 2, bits - bits // 2
        return [sum((1 << half) - 1 for half in halves if half > 1)], 2

    def digits(self, comparator: Comparator, count: int) -> list[int]:
        """Openings for the digits of random numbers, after their signs."""
        parts = []
        for bits in comparator.widths:
            ahead, degree = self._characters(bits)
            parts.append((ahead, (1 << bits) - 1 if degree > 1 else 0))
        ahead = side_by_side(*[early for early, _ in parts])
        last = sum(late for _, late in parts)
        return [count * each for each in (*ahead, *([last] if last else []))]

    def combined(self, comparator: Comparator, count: int) -> list[int]:
        """Openings for combining digits in groups of L: "greater" of all groups, "equal" of all but the lowest."""
        digits, opened = len(comparator.widths), []
        for _ in range(comparator.levels):
            single = digits % self.limit == 1
            groups = -(-digits // self.limit)
            opened.append(count * (2 * (groups - single) - 1))
            digits = groups
        return opened

    @property
    def norms(self) -> list[int]:
        """Products of clusters' members, where their degree is too high to put them in order."""
        return [sum(points * k for k, points in self.kept) // self.n] if self.hidden and self.high else []

    @property
    def finalists(self) -> dict[int, int]:
        """Runs at the end, by K."""
        return {k: len(self.search.groups(k)) for k in self.search.seeds}


def bits_of(k: int) -> int:
    """Bits of a choice among k."""
    return max(k - 1, 1).bit_length()


def size_of(k: int) -> int:
    """Places of a choice among k: k, rounded up to a power of two."""
    return 1 << bits_of(k)


def side_by_side(*sequences: Sequence[int]) -> list[int]:
    """Openings in each exchange of computations that run together."""
    return [sum(counts) for counts in zip_longest(*sequences, fillvalue=0)]
