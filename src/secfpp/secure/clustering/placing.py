"""Where newcomers belong among groups that are there already: public figures, and the rule in the clear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secfpp.errors import DropoutError, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientId
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.sampling import drawn


@dataclass(frozen=True)
class Placing:
    """Who is placed, and among whom; clients are numbered in sorted order.

    Args:
        groups: numbers of the groups that newcomers can join, ascending.
        members: who is in which of them, 0 or 1, int64 [groups, clients].
        newcomers: numbers of the clients to be placed, int64.
    """

    groups: tuple[int, ...]
    members: np.ndarray
    newcomers: np.ndarray

    @classmethod
    def of(
        cls, clients: Sequence[ClientId], old: Assignment, newcomers: Iterable[ClientId], fewest: int, step: str
    ) -> Placing:
        """Those of `newcomers` that are among `clients`, and the groups of which at least `fewest` members are.

        Raises:
            DropoutError: no group has so many; `clients` answered `step`.
        """
        present = [set(clients) & set(old.members(group)) for group in range(old.k)]
        groups = [group for group, members in enumerate(present) if len(members) >= fewest or old.k == 1]
        if not groups:
            raise DropoutError(step, fewest, max(map(len, present)), sorted(set(old.cluster_of) - set(clients)))
        new = set(newcomers) & set(clients)
        return cls(
            tuple(groups),
            np.array([[int(client in present[group]) for client in clients] for group in groups]),
            np.array([number for number, client in enumerate(clients) if client in new], np.int64),
        )

    @classmethod
    def read(cls, facts: Mapping[str, Any], clients: int, fewest: int) -> Placing:
        """What `facts` says of so many clients.

        Raises:
            ProtocolError: it is no such thing, or a group has fewer than `fewest` members.
        """
        groups, new = _integers(facts.get("groups"), clients - 1), _integers(facts.get("newcomers"), clients - 1)
        members = groups == np.arange(groups.max(initial=-1) + 1)[:, None]
        if len(groups) != clients or len(members) < 2 or members.sum(1).min() < fewest:
            raise ProtocolError(f"newcomers are placed among groups, two or more, of {fewest} members who are there")
        if not len(new) or new.min() < 0 or (groups[new] >= 0).any():
            raise ProtocolError("newcomers are clients that are in none of the groups")
        return cls(tuple(range(len(members))), members.astype(np.int64), new)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        numbers = np.where(self.members.any(0), self.members.argmax(0), -1)
        return {"groups": numbers.tolist(), "newcomers": self.newcomers.tolist()}

    @property
    def undecided(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.groups) > 1 and len(self.newcomers) > 0

    def chosen(self, points: np.ndarray, self_products: bool) -> list[int]:
        """For each newcomer which of the groups it belongs to, the first of several.

        That is the one whose members' mean is nearest; without self-products, the one with whose members it has the
        largest mean product.

        Args:
            points: integers [clients, d].
            self_products: see `secfpp.secure.clustering.agreement`.
        """
        points = points.astype(np.int64)
        sums, weights = self.members @ points, self.members.sum(1)
        norms = (sums * sums).sum(1) if self_products else np.zeros(len(sums), np.int64)
        scores = norms[:, None] - 2 * weights[:, None] * (sums @ points[self.newcomers].T)
        best: list[int] = kmeans.nearest(scores[None], weights[None])[0].tolist()
        return best

    def joined(self, clients: Sequence[ClientId], old: Assignment, chosen: Sequence[int] | None) -> Assignment:
        """`old` with the newcomers where they belong; nobody else moves, and no group gets another number.

        Args:
            clients: whom the numbers of clients are of.
            old: the groups so far.
            chosen: which of the groups each newcomer belongs to; None puts all into the first.
        """
        every = chosen or [0] * len(self.newcomers)
        places = {clients[new]: self.groups[group] for new, group in zip(self.newcomers, every, strict=True)}
        return Assignment({**old.cluster_of, **places})


def _integers(value: object, largest: int) -> np.ndarray:
    """Whole numbers from -1 to `largest`, int64, of terms."""
    if not isinstance(value, list) or not all(type(one) is int and -1 <= one <= largest for one in value):
        raise ProtocolError("terms without the groups that newcomers are placed among")
    return np.array(value, np.int64)


def taking_part(cohort: Cohort, old: Assignment, newcomers: Iterable[ClientId], sample: int, fewest: int) -> Cohort:
    """Newcomers, and who is there of the groups: of more than `sample` members, as many of each group.

    Args:
        cohort: who is there.
        old: the groups.
        newcomers: clients of the cohort.
        sample: most members that newcomers are compared with, if `fewest` of each group are no more; 0 is all.
        fewest: see `Placing.of`.

    Raises:
        ProtocolError: a newcomer that is not in the cohort, or has a group.
    """
    new = set(newcomers)
    if grouped := sorted(new & set(old.cluster_of)):
        raise ProtocolError(f"{', '.join(grouped)}: in a group already, so no newcomers")
    present = set(cohort.clients) & set(old.cluster_of)
    if sample and len(present) > sample:
        most = max(sample // old.k, fewest)
        groups = [present.intersection(old.members(group)) for group in range(old.k)]
        present = {client for group in groups for client in drawn(group, most, cohort.seed, cohort.round)}
    return cohort.subset(new | present)
