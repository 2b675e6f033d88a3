"""What every way to group clients has in common; and the simple ones: all in one, at random, by their true domain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientState, Program, step
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

    def require(self, clients: int) -> None:
        """Refuse a number of clients, in a round, that these settings cannot group.

        Raises:
            ConfigError: says which setting does not fit.
            FieldRangeError: too many clients for exact arithmetic.
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


@dataclass(frozen=True)
class OracleClusters(Clusterer):
    """The clients' true domains: simulations only, since it asks for ``state["domain"]``; one exchange.

    Raises:
        DropoutError: nobody answered.
    """

    kind: ClassVar[str] = "oracle"

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        replies = yield Ask("clusterer.domain", {client: {} for client in cohort.clients})
        if not replies:
            raise DropoutError("clusterer.domain", 1, 0, replies.missing)
        return Assignment.from_labels(list(replies), [int(reply["domain"]) for reply in replies.values()])

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
