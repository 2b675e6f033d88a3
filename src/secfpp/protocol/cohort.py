"""Who takes part: a round's clients with their weights, and which client is in which cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secfpp.errors import ProtocolError
from secfpp.protocol.program import ClientId


@dataclass(frozen=True)
class Cohort:
    """The clients of one round.

    Args:
        weights: client to its integer weight in averages, at least 1.
        round: number of the round.
        seed: the run's public seed; programs derive theirs from it.

    Raises:
        ProtocolError: a weight below 1.
    """

    weights: Mapping[ClientId, int]
    round: int
    seed: int

    def __post_init__(self) -> None:
        for client, weight in self.weights.items():
            if weight < 1:
                raise ProtocolError(
                    f"client {client!r} has weight {weight}: weights are integers from 1, leave the client out instead"
                )
        object.__setattr__(self, "weights", dict(sorted(self.weights.items())))

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """The clients, sorted."""
        return tuple(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def subset(self, clients: Iterable[ClientId]) -> Cohort:
        """The same round with only these clients.

        Raises:
            ProtocolError: a client that is not in this cohort.
        """
        chosen = set(clients)
        if strangers := sorted(chosen - self.weights.keys()):
            raise ProtocolError(f"{', '.join(strangers)}: not in this cohort of {', '.join(self.clients)}")
        return Cohort({client: self.weights[client] for client in chosen}, self.round, self.seed)


@dataclass(frozen=True)
class Assignment:
    """A partition: `cluster_of` maps each client to a cluster 0..k-1, and every cluster has a member.

    Raises:
        ProtocolError: no client at all, or cluster numbers with gaps.
    """

    cluster_of: Mapping[ClientId, int]

    def __post_init__(self) -> None:
        used = sorted(set(self.cluster_of.values()))
        if not used or used != list(range(len(used))):
            raise ProtocolError(f"clusters {used} of an assignment: they are numbered 0, 1, ... without gaps")
        object.__setattr__(self, "cluster_of", dict(sorted(self.cluster_of.items())))

    @classmethod
    def from_labels(cls, clients: Sequence[ClientId], labels: Iterable[object]) -> Assignment:
        """Clients with equal labels share a cluster; clusters are numbered by their first client in sorted order.

        So two lists of labels that describe one partition give equal assignments.
        """
        label_of = dict(sorted(zip(clients, labels, strict=True)))
        numbers: dict[object, int] = {}
        return cls({client: numbers.setdefault(label, len(numbers)) for client, label in label_of.items()})

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(set(self.cluster_of.values()))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Members per cluster."""
        return tuple(len(self.members(cluster)) for cluster in range(self.k))

    def members(self, cluster: int) -> tuple[ClientId, ...]:
        """The clients of one cluster, sorted."""
        return tuple(client for client, number in self.cluster_of.items() if number == cluster)
