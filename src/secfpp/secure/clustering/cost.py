"""What a `SecureKMeans` costs, from public numbers alone: exchanges, messages, openings and bytes.

The formulas hold for runs without dropouts, key agreement included, and are compared with measured counts in the
tests. See docs/costs.md for them in words.

Symbols: c holders, of whom T may collude; n clients; L T is the largest degree that is opened; R runs begin for each K,
F of them go on to all I iterations. A *comparison* is one sign of a difference of scores; an *opening* is one field
element, 8 bytes, that becomes public.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, zip_longest
from typing import Literal

from secfpp.crypto.channel import ENVELOPE_OVERHEAD
from secfpp.crypto.checks import COIN_BYTES
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.material import UNIFORM, Deal, Kind
from secfpp.errors import ConfigError, Problem
from secfpp.secure import committee
from secfpp.secure import message_sizes as sizes
from secfpp.secure.clustering.search import Search
from secfpp.secure.clustering.secpc import SecPC
from secfpp.secure.clustering.secure_kmeans import SecureKMeans

Role = Literal["responder", "standby", "client"]
"""A holder that answers openings, one that stands by in case another drops out, or a client that holds no shares."""


@dataclass(frozen=True)
class ClusteringCost:
    """Costs of one `SecureKMeans` that reveals the partition or the assignments.

    Where only K = 1 is tried nothing is sent, and all costs are 0.

    Args:
        settings: the clusterer.
        n: clients, all of whom answer.
        seed: the public seed, which decides which runs start from a pair of clients in common.
        round_: number of the round.
        admitted: runs that go on and whose clusters are all large enough; None takes all for it. If there is none,
            nothing is found and the last exchange is not needed.

    Raises:
        ConfigError: settings that reveal distances.
    """

    settings: SecureKMeans
    n: int
    seed: int = 0
    round_: int = 0
    admitted: int | None = None

    def __post_init__(self) -> None:
        if self.settings.reveal == "distances":
            allowed = "partition or assignments: there are no formulas for this one"
            raise ConfigError([Problem("clusterer.reveal", self.settings.reveal, allowed)])

    @property
    def holders(self) -> int:
        """How many hold shares, c."""
        return min(self.n, self.settings.committee)

    @property
    def threshold(self) -> int:
        """How many of them may collude, T."""
        return self.settings.collusion(self.n)

    @property
    def responders(self) -> int:
        """Holders that answer an exchange, the first of them as long as none drops out."""
        return max(self.settings.limit * self.threshold + 1, committee.quorum(self.holders, self.threshold))

    @cached_property
    def search(self) -> Search:
        """The public candidates."""
        return self.settings.search(self.n, self.seed, self.round_)

    @cached_property
    def first_comparisons(self) -> int:
        """Comparisons of the first iteration, to seed points: runs that have two of them in common share those."""
        runs = (run for seeds in self.search.seeds.values() for run in seeds.tolist())
        return self.n * len({pair for run in runs for pair in combinations(run, 2)})

    @property
    def contest_comparisons(self) -> int:
        """Those of the costs of all pairs of runs of which one goes on."""
        return sum(rows * size * (size - 1) // 2 for rows, size in self._groups)

    @property
    def later_comparisons(self) -> int:
        """Those of all other iterations: n F K (K - 1) / 2 in each, summed over K."""
        return (self.search.iterations - 1) * self._per_iteration

    @property
    def comparisons(self) -> int:
        """All comparisons."""
        return self.first_comparisons + self.contest_comparisons + self.later_comparisons

    @cached_property
    def opened(self) -> tuple[int, ...]:
        """Openings in every exchange of the computation, in order."""
        if not self._begun:
            return ()
        first = [sum(points * _size(k) for k, points in self._begun)]
        choices = [sum(points * _size(k) for k, points in self._kept)]
        lowered = [sum(points * k for k, points in self._kept)] if self._hidden and self._high else []
        count, rest = self._per_iteration, self.search.iterations - 1
        iteration = [*lowered, count, *self._combined(self._circuit.later, count), *choices]
        return (*self._prepared(), *self._started(), *first, *self._contest(), *iteration * rest, *self._outcome())

    @property
    def exchanges(self) -> int:
        """Greeting, randomness for a committee if one is drawn, dealing, and those of the computation."""
        return len(self.opened) and 2 + (self.n > self.holders) + len(self.opened)

    @property
    def messages(self) -> int:
        """Asks and replies."""
        return 2 * ((self.exchanges - len(self.opened)) * self.n + len(self.opened) * self.responders)

    @cached_property
    def demand(self) -> dict[Kind, int]:
        """Pieces of randomness by kind: comparisons take integers, outputs nothing, the rest uniform elements."""
        shown = sum(self._outcome()) - sum(self._norms)
        wanted = Counter[Kind]({UNIFORM: sum(self.opened) - self.comparisons - shown})
        for comparator, count in self._compared:
            wanted["integers", comparator.k] += count
        for k, points in self._kept if self._hidden else []:
            wanted["permutations", k] = points // self.n
        return dict(wanted)

    @property
    def shared(self) -> int:
        """Field elements that a client shares: its descriptor's bits."""
        return self.settings.layout({}).width

    @cached_property
    def dealt(self) -> int:
        """Field elements of randomness that a holder shares on top."""
        return Deal(self.holders, self.threshold, self.demand).size

    def sent(self, role: Role, name_bytes: int) -> int:
        """Bytes that a client sends, exactly, if all names are `name_bytes` long."""
        holder = role != "client"
        if not self.opened:
            return 0
        size = sizes.ELEMENT * (self.shared + holder * self.dealt) + ENVELOPE_OVERHEAD
        total = sizes.greeting(self.n > self.holders) + holder * sizes.array(4, 1, sizes.COMMITMENT)
        total += sizes.message(*[sizes.array(3 + name_bytes, 1, size)] * (self.holders - holder))
        if role == "responder":
            total += sum(sizes.message(sizes.array(6, 1, sizes.ELEMENT * count)) for count in self.opened)
            checks = sizes.ELEMENT * (self.responders + 1) * self.n
            total += sizes.array(4, 1, COIN_BYTES) + sizes.array(6, 1, checks)
        return total

    def received(self, role: Role) -> int:
        """Bytes of keys, envelopes and opened values that a client receives; texts and framing come on top."""
        if not self.opened:
            return 0
        total = sizes.keys(self.n, self.n > self.holders)
        if role == "responder":
            total += (self.n - 1) * (sizes.ELEMENT * self.shared + ENVELOPE_OVERHEAD)
            total += (self.holders - 1) * sizes.ELEMENT * self.dealt + sizes.ELEMENT * sum(self.opened[:-1])
            total += self.holders * sizes.COMMITMENT + self.responders * COIN_BYTES
        return total

    @property
    def largest_message(self) -> int:
        """Bytes of the largest message but for texts and framing: what a holder deals, or gets of that, or an opening.

        `secfpp.protocol.wire.MAX_MESSAGE` is as much as fits.
        """
        if not self.opened:
            return 0
        envelope, inputs = sizes.ELEMENT * self.dealt, sizes.ELEMENT * self.shared + ENVELOPE_OVERHEAD
        received = (self.holders - 1) * envelope + (self.n - 1) * inputs
        return max((self.holders - 1) * (envelope + inputs), received, sizes.ELEMENT * max(self.opened))

    @property
    def _hidden(self) -> bool:
        return self.settings.reveal == "partition"

    @property
    def _high(self) -> bool:
        return self.settings.threshold == "high"

    @property
    def _begun(self) -> list[tuple[int, int]]:
        """K and the points of all its runs, R n, for K > 1."""
        return [(k, len(seeds) * self.n) for k, seeds in self.search.seeds.items() if k > 1]

    @property
    def _kept(self) -> list[tuple[int, int]]:
        """K and the points of those of its runs that go on, F n, for K > 1."""
        return [(k, len(self.search.groups(k)) * self.n) for k, _ in self._begun]

    @property
    def _groups(self) -> list[tuple[int, int]]:
        """For each K how many groups of runs there are and their size, if it is above 1."""
        shapes = [self.search.groups(k).shape for k, _ in self._begun]
        return [(rows, size) for rows, size in shapes if size > 1]

    @property
    def _per_iteration(self) -> int:
        return sum(points * k * (k - 1) // 2 for k, points in self._kept)

    @property
    def _compared(self) -> list[tuple[Comparator, int]]:
        circuit = self._circuit
        counts = self.first_comparisons, self.contest_comparisons, self.later_comparisons
        compared = zip((circuit.nearer, circuit.contest, circuit.later), counts, strict=True)
        return [(comparator, count) for comparator, count in compared if count]

    @cached_property
    def _circuit(self) -> SecPC:
        levels = 0 if self.settings.compare_bits else 2 if self._high else 1
        bits = self.settings.compare_bits or None
        return SecPC(self.search, self.threshold, self.settings.limit, levels, bits)

    def _prepared(self) -> list[int]:
        """Inner products, random bits of comparisons and choices, and secret orders of clusters."""
        bits = sum(comparator.w * count for comparator, count in self._compared)
        choices = [_bits(k) * points for k, points in self._chosen]
        opened = [[self.n * (self.n + 1) // 2 + bits + (sum(choices) if self._hidden else 0)]]
        for k, points in self._kept if self._hidden else []:
            entries, count, orders = points // self.n * k * k, self.threshold + 1, []
            while count > 1:  # the product of `count` permutation matrices, in groups of L
                orders.append(entries * (count // self.settings.limit + (count % self.settings.limit > 1)))
                count = -(-count // self.settings.limit)
            opened.append(orders)
        return _side_by_side(opened)

    def _started(self) -> list[int]:
        """The digits of random numbers and one-hot choices, beside the first comparisons."""
        opened = [[self.first_comparisons, *self._combined(self._circuit.nearer, self.first_comparisons)]]
        opened += [self._digits(comparator, count) for comparator, count in self._compared]
        for k, count in self._chosen if self._hidden else []:
            bits, size = _bits(k), _size(k)
            ahead, degree = self._characters(bits)
            if degree + 1 > self.settings.limit:
                ahead, degree = [*ahead, size - 1], 1
            last = (size - 1) * (size + (degree > 1))
            opened.append([count * each for each in (*ahead, last)])
        return _side_by_side(opened)

    @property
    def _chosen(self) -> list[tuple[int, int]]:
        """K and how often one of so many candidates is chosen in all iterations."""
        rest = self.search.iterations - 1
        return [(k, begun + rest * kept) for (k, begun), (_, kept) in zip(self._begun, self._kept, strict=True)]

    def _contest(self) -> list[int]:
        """Which runs go on."""
        count = self.contest_comparisons
        if not count:
            return []
        return [count, *self._combined(self._circuit.contest, count), sum(rows * size for rows, size in self._groups)]

    def _characters(self, bits: int) -> tuple[list[int], int]:
        """Openings for the products of all subsets of some bits, and the degree of those products."""
        if bits <= self.settings.limit:
            return [], bits
        halves = bits // 2, bits - bits // 2
        return [sum((1 << half) - 1 for half in halves if half > 1)], 2

    def _digits(self, comparator: Comparator, count: int) -> list[int]:
        parts = []
        for bits in comparator.widths:
            ahead, degree = self._characters(bits)
            parts.append((ahead, (1 << bits) - 1 if degree > 1 else 0))
        ahead = _side_by_side([early for early, _ in parts])
        last = sum(late for _, late in parts)
        return [count * each for each in (*ahead, *([last] if last else []))]

    def _combined(self, comparator: Comparator, count: int) -> list[int]:
        """Openings for combining digits in groups of L: "greater" of all groups, "equal" of all but the lowest."""
        digits, opened = len(comparator.widths), []
        for _ in range(comparator.levels):
            single = digits % self.settings.limit == 1
            groups = -(-digits // self.settings.limit)
            opened.append(count * (2 * (groups - single) - 1))
            digits = groups
        return opened

    @property
    def _norms(self) -> list[int]:
        """Lengths of clusters' sums, where their degree is too high to put them in order."""
        return [sum(points * k for k, points in self._kept) // self.n] if self._hidden and self._high else []

    def _outcome(self) -> list[int]:
        """Sizes, inertia, and the partition."""
        runs = {k: len(self.search.groups(k)) for k in self.search.seeds}
        admitted = sum(runs.values()) if self.admitted is None else self.admitted
        partition = [self.n**2] if admitted else []
        return [sum(k * count for k, count in runs.items()), *self._norms, admitted, *partition]


def _bits(k: int) -> int:
    """Bits of a choice among k."""
    return max(k - 1, 1).bit_length()


def _size(k: int) -> int:
    """Places of a choice among k: k, rounded up to a power of two."""
    return 1 << _bits(k)


def _side_by_side(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Openings in each exchange of computations that run together."""
    return [sum(counts) for counts in zip_longest(*sequences, fillvalue=0)]
