"""What every way to group clients has in common; and the simple ones: all in one, at random, by their true domain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, step
from secfpp.seeding import derive
from secfpp.settings import check_types


class Clusterer(ABC):
    """A way to group clients; a field named ``clusterer`` of an algorithm, which gives its steps their name."""

    kind: ClassVar[str]
    needs_keys: ClassVar[bool] = False

    @abstractmethod
    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """Group the clients by the descriptor in `slot`.

        Args:
            cohort: the clients to group.
            slot: array of the clients' states, float [d], that describes them.
            previous: the partition so far, if any.

        Returns:
            A partition of the clients that answered, clusters numbered by their first client.
        """

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """Find a group for clients that have none, among those that are there; nobody else moves.

        Args:
            cohort: who is there: newcomers, and members of the groups.
            slot: array of the clients' states, float [d], that describes them.
            assignment: the groups.
            newcomers: clients of the cohort without a group.

        Returns:
            `assignment` and the newcomers that answered; groups keep their numbers.

        Raises:
            ConfigError: this way to group clients has no rule for it.
        """
        yield from ()
        raise ConfigError([Problem("clusterer.kind", self.kind, "a kind that has a rule for newcomers")])

    def require(self, clients: int) -> None:
        """Refuse a number of clients, in a round, that these settings cannot group.

        Raises:
            ConfigError: says which setting does not fit.
            FieldRangeError: too many clients for exact arithmetic.
        """
        return

    def prepare(self, clients: int, dimensions: int, seed: int) -> None:
        """Compute now what grouping would have to wait for, of public numbers only; no result depends on it.

        Args:
            clients: who are likely to be grouped, in the first round.
            dimensions: numbers in a descriptor.
            seed: of the run.
        """
        return


@dataclass(frozen=True)
class OneCluster(Clusterer):
    """Everybody in one cluster; nothing is sent."""

    kind: ClassVar[str] = "one"

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        yield from ()
        return Assignment(dict.fromkeys(cohort.clients, 0))

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """See `Clusterer.place`: in the first group."""
        yield from ()
        return Assignment({**assignment.cluster_of, **dict.fromkeys(newcomers, 0)})


@dataclass(frozen=True)
class RandomClusters(Clusterer):
    """`k` random clusters, sizes differing by at most one, the same in every round; nothing is sent.

    Raises:
        ConfigError: `k` below 1, or more clusters than clients.
    """

    kind: ClassVar[str] = "random"

    k: int = 6

    def __post_init__(self) -> None:
        check_types(self, "clusterer")
        require_at_least_one(self, "k")

    def require(self, clients: int) -> None:
        """See `Clusterer.require`."""
        if self.k > clients:
            raise ConfigError([Problem("clusterer.k", self.k, f"at most one cluster per client, {clients}")])

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        yield from ()
        self.require(len(cohort))
        order = derive(cohort.seed, "random_clusters").numpy().permutation(len(cohort))
        return Assignment.from_labels(cohort.clients, (order % self.k).tolist())

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """See `Clusterer.place`: at random, whoever else comes."""
        yield from ()
        draws = {client: derive(cohort.seed, "random_clusters", client).numpy() for client in newcomers}
        places = {client: int(draw.integers(assignment.k)) for client, draw in draws.items()}
        return Assignment({**assignment.cluster_of, **places})


@dataclass(frozen=True)
class OracleClusters(Clusterer):
    """The clients' true domains: simulations only, since it asks for ``state["domain"]``; one exchange.

    Raises:
        DropoutError: nobody answered.
    """

    kind: ClassVar[str] = "oracle"

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        domains = yield from self._domains(cohort)
        return Assignment.from_labels(list(domains), domains.values())

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """See `Clusterer.place`: in the group with most members of its domain, the first of several."""
        domains = yield from self._domains(cohort)
        places = {}
        for client in set(newcomers) & set(domains):
            alike = [sum(domains.get(c) == domains[client] for c in assignment.members(g)) for g in range(assignment.k)]
            places[client] = alike.index(max(alike))
        return Assignment({**assignment.cluster_of, **places})

    def _domains(self, cohort: Cohort) -> Program[dict[ClientId, int]]:
        replies = yield Ask("clusterer.domain", {client: {} for client in cohort.clients})
        if not replies:
            raise DropoutError("clusterer.domain", 1, 0, replies.missing)
        return {client: int(reply["domain"]) for client, reply in replies.items()}

    @step
    def domain(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the number of the client's domain."""
        if "domain" not in state:
            raise ProtocolError('the state has no "domain": oracle clusters need a simulation with known domains')
        return state, {"domain": state["domain"]}


def require_at_least_one(settings: object, *names: str) -> None:
    """Refuse settings of these names below 1; None is not looked at.

    Raises:
        ConfigError: there are some.
    """
    values: Mapping[str, int | None] = {name: getattr(settings, name) for name in names}
    if problems := [Problem(f"clusterer.{n}", v, "at least 1") for n, v in values.items() if v is not None and v < 1]:
        raise ConfigError(problems)
