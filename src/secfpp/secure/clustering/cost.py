"""What clustering on shares costs, from public numbers alone: exchanges, messages, openings and bytes.

The formulas hold for runs without dropouts, key agreement included, and are compared with measured counts in the
tests. See docs/costs.md for them in words, and `secfpp.secure.clustering.search_cost` for the symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from secfpp.crypto.comparison import Comparator
from secfpp.crypto.lookup import hidden_bits
from secfpp.crypto.material import UNIFORM, Kind
from secfpp.errors import ConfigError, Problem
from secfpp.secure import message_sizes as sizes
from secfpp.secure.circuits.cost import Role, compared
from secfpp.secure.circuits.plan import verifying
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.placed import placing_comparator
from secfpp.secure.clustering.search_cost import OnSharesCost, SearchCost, bits_of, side_by_side, size_of
from secfpp.secure.clustering.secpc import SecPC
from secfpp.secure.clustering.secure_agreement import SecureAgreement, Size
from secfpp.secure.clustering.secure_kmeans import SecureKMeans

ANNOUNCEMENT = sizes.message(sizes.array(10, 0, 8), sizes.array(6, 0, 8))
"""Bytes in which a client tells how many numbers its descriptor has, and the spread of products."""


@dataclass(frozen=True)
class ClusteringCost(SearchCost):
    """Costs of one `SecureKMeans` that reveals the partition or the assignments.

    Args:
        seed: the public seed, which decides which runs start from a pair of clients in common.
        round_: number of the round.
        admitted: runs that go on and whose clusters are all large enough; None takes all for it. If there is none,
            nothing is found and the last exchange is not needed.

    Raises:
        ConfigError: settings that reveal distances.
    """

    settings: SecureKMeans
    seed: int = 0
    round_: int = 0
    admitted: int | None = None

    def __post_init__(self) -> None:
        if self.settings.reveal == "distances":
            allowed = "partition or assignments: there are no formulas for this one"
            raise ConfigError([Problem("clusterer.reveal", self.settings.reveal, allowed)])

    @cached_property
    def circuit(self) -> SecPC:
        """See `SearchCost.circuit`."""
        return self.settings.circuit(self.n, self.threshold, self.seed, self.round_)

    @property
    def shared(self) -> int:
        """Field elements that a client shares: its descriptor's bits."""
        return self.settings.layout({}).width

    @property
    def ending(self) -> int:
        """Sizes, inertia, and the partition if there is one."""
        return 2 + (self.admitted != 0)

    @property
    def verified(self) -> int:
        """See `CircuitCost.verified`: the partition's are dealt also if there turns out to be none."""
        checks = self.checks + (self.admitted == 0) if self.active else 0
        return verifying(checks, self.holders, self.threshold, self.limit)

    @property
    def outcome(self) -> list[int]:
        """Sizes, inertia, and the partition."""
        admitted = sum(self.finalists.values()) if self.admitted is None else self.admitted
        partition = [self.n**2] if admitted else []
        return [sum(k * count for k, count in self.finalists.items()), *self.norms, admitted, *partition]

    @property
    def gated(self) -> int:
        """Comparisons, and inertias of all runs that go on."""
        return self.comparisons + sum(self.finalists.values())

    @property
    def shown(self) -> int:
        """All of the outcome that is not lowered."""
        return sum(self.outcome) - sum(self.norms)


@dataclass(frozen=True)
class AgreementCost(SearchCost):
    """Costs of one `SecureAgreement`.

    Args:
        dimensions: numbers in a descriptor.
        seed: the public seed, which decides which runs start from a pair of clients in common.
        round_: number of the round.
    """

    settings: SecureAgreement
    dimensions: int = 576
    seed: int = 0
    round_: int = 0

    @cached_property
    def circuit(self) -> Agreed:
        """See `SearchCost.circuit`."""
        return self.settings.circuit(Size(self.n, self.dimensions, self.threshold, self.seed, self.round_))

    @property
    def shared(self) -> int:
        """Field elements that a client shares: its descriptor's bits."""
        return self.settings.layout({"dimensions": self.dimensions}).width

    @property
    def last_comparisons(self) -> int:
        """Those of the costs of all pairs of runs at their end."""
        return self.circuit.finalists * (self.circuit.finalists - 1) // 2

    @property
    def compared(self) -> list[tuple[Comparator, int]]:
        """Comparisons by kind."""
        return [*super().compared, (self.circuit.total, self.last_comparisons)]

    @property
    def beside(self) -> list[list[int]]:
        """Material for the contests, for functions of sizes, and for the last choice."""
        choices = [*((size, rows) for _, rows, size in self.contests), (self.circuit.finalists, 1)]
        turned = [[bits_of(of) * count, *self.turned(of, count)] for of, count in choices]
        total, count = self.circuit.total, self.last_comparisons
        sizes_, values = self.circuit.clusters, self.n + 1
        looked_up = [bits_of(values) * sizes_, *self.turned(values, sizes_, scaling=False)]
        return [*turned, looked_up, [total.w * count, *self.digits(total, count)]]

    @property
    def contested(self) -> list[int]:
        """Which runs go on, and beside their comparisons what it takes to have these."""
        if not self.contests:
            return []
        *compared_, _ = super().contested
        turned = sum(rows * size_of(size) for _, rows, size in self.contests)
        blending = [sum(rows * (size_of(size) - 1) * k * self.n for k, rows, size in self.contests)]
        return side_by_side([*compared_, turned], blending)

    @property
    def ending(self) -> int:
        """Masked sizes, of which some say more than others if they are no sizes, the rotated best, the partition."""
        return 3

    @property
    def outcome(self) -> list[int]:
        """Masked sizes, comparisons of costs, the rotated best, and the partition."""
        total, count = self.circuit.total, self.last_comparisons
        ahead = side_by_side([self.circuit.clusters], self.norms)
        return [*ahead, count, *self.combined(total, count), size_of(self.circuit.finalists), self.shown]

    @property
    def shown(self) -> int:
        """The partition."""
        return self.n * (self.n - 1) // 2

    @property
    def gated(self) -> int:
        """Comparisons, and masked sizes."""
        return self.comparisons + self.circuit.clusters

    @cached_property
    def demand(self) -> dict[Kind, int]:
        """Pieces of randomness by kind: a masked size takes an integer, and no uniform element but what gates it."""
        wanted = Counter[Kind](super().demand)
        wanted[UNIFORM] -= self.circuit.clusters
        if not self.active:
            wanted["integers", hidden_bits(bits_of(self.n + 1), self.threshold + 1)] += self.circuit.clusters
        return dict(wanted)

    @property
    def messages(self) -> int:
        """Asks and replies."""
        return len(self.opened) and super().messages + 2 * self.n

    def sent(self, role: Role) -> int:
        """Bytes that a client sends, exactly."""
        return len(self.opened) and super().sent(role) + ANNOUNCEMENT


@dataclass(frozen=True)
class PlacingCost(OnSharesCost):
    """Costs of giving newcomers a group; the clients are newcomers and members who are there.

    Args:
        groups: how many they are placed among, at least two.
        newcomers: how many these are.
        dimensions: numbers in a descriptor, for a `SecureAgreement`.
    """

    groups: int
    newcomers: int
    dimensions: int = 576

    @property
    def members(self) -> int:
        """How many are in these groups."""
        return self.n - self.newcomers

    @property
    def shared(self) -> int:
        """Field elements that a client shares: its descriptor's bits."""
        return self._layout.width

    @property
    def comparisons(self) -> int:
        """One for each newcomer and pair of groups."""
        return self.newcomers * self.groups * (self.groups - 1) // 2

    @property
    def decisive(self) -> int:
        """The groups."""
        return 1

    @property
    def opened(self) -> tuple[int, ...]:
        """Openings in every exchange of the computation, in order."""
        return (*compared(self._comparator, self.comparisons, self.limit), self.groups * self.newcomers)

    @property
    def demand(self) -> Mapping[Kind, int]:
        """Pieces of randomness by kind: comparisons take an integer and two uniform elements, the rest one."""
        wanted = Counter[Kind]({UNIFORM: sum(self.opened) + self.comparisons + self.verified})
        if not self.active:
            wanted["integers", self._comparator.k] += self.comparisons
        return wanted

    @property
    def messages(self) -> int:
        """Asks and replies."""
        return super().messages + 2 * self.n * self.settings.by_agreement

    def sent(self, role: Role) -> int:
        """Bytes that a client sends, exactly."""
        return super().sent(role) + ANNOUNCEMENT * self.settings.by_agreement

    @property
    def _layout(self) -> Layout:
        return self.settings.layout({"dimensions": self.dimensions})

    @property
    def _comparator(self) -> Comparator:
        return placing_comparator(
            self.members, self._layout.longest, not self.settings.by_agreement, self.carry, self.limit
        )
