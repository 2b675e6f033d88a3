"""Who takes part: a round's clients with their weights, and which client is in which cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from secfpp.errors import ProtocolError
from secfpp.protocol.program import Arrays, ClientId


@dataclass(frozen=True)
class Cohort:
    """The clients of one round.

    Args:
        weights: client to its integer weight in averages, at least 1.
        round: number of the round.
        seed: the run's public seed; programs derive theirs from it.
        rounds: how many rounds the run will have; 0 if that is not known.
        sampled: whether clients of this round may have missed the last one, as where they are drawn anew for each.
        keys: what clients said in the round's key agreement, if there was one; of more than these if they are part of a
            larger cohort that agreed.
        draw: how often randomness for a committee was collected in vain.

    Raises:
        ProtocolError: a weight below 1.
    """

    weights: Mapping[ClientId, int]
    round: int
    seed: int
    rounds: int = 0
    sampled: bool = False
    keys: Mapping[ClientId, Arrays] = field(default_factory=dict, compare=False, repr=False)
    draw: int = 0

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
        return replace(self, weights={client: self.weights[client] for client in chosen})


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

    def listed(self, cluster: int) -> tuple[ClientId, ...] | None:
        """The clients of one cluster, or None if it is the only one: then it is whoever comes."""
        return self.members(cluster) if self.k > 1 else None

    def extends(self, old: Assignment) -> bool:
        """Whether the clients that both partitions know are grouped alike in both."""
        pairs = {(self.cluster_of[c], old.cluster_of[c]) for c in self.cluster_of if c in old.cluster_of}
        return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    def with_absent(self, old: Assignment) -> Assignment:
        """This partition and the clients of `old` that it lacks, who stay with those they were with.

        `self` must extend `old`. Clusters of absent clients only are added.
        """
        new_of = {old.cluster_of[c]: cluster for c, cluster in self.cluster_of.items() if c in old.cluster_of}
        labels: dict[ClientId, object] = {
            c: new_of.get(cluster, ("old", cluster)) for c, cluster in old.cluster_of.items()
        }
        labels.update(self.cluster_of)
        return Assignment.from_labels(list(labels), labels.values())
