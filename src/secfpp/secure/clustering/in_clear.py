"""A search for groups by a server that sees the descriptors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from secfpp.errors import DropoutError, ReplyError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Ask, ClientId, Program, Replies
from secfpp.secure.clustering.placing import Placing, taking_part
from secfpp.secure.clustering.sampling import drawn
from secfpp.secure.clustering.searching import Searching

STEP = "clusterer.describe"


@dataclass(frozen=True)
class InClear(Searching):
    """A search by a server that sees the descriptors; one exchange, in which clients run the step ``describe``."""

    @abstractmethod
    def labels(self, replies: Replies, cohort: Cohort) -> np.ndarray:
        """Clusters of the clients that replied, in order."""

    @abstractmethod
    def points(self, replies: Replies) -> np.ndarray:
        """The checked descriptors of all replies, int64 [n, d].

        Raises:
            ProtocolError: a reply without one.
        """

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        self.require_some(len(cohort))
        replies = yield from self._described(cohort, slot)
        if len(replies) < self.min_cluster_size:
            raise DropoutError(STEP, self.min_cluster_size, len(replies), replies.missing)
        sample = drawn(replies, self.searched(len(replies)), cohort.seed, cohort.round)
        labels = self.labels(Replies({client: replies[client] for client in sample}), cohort).tolist()
        found = self._joined(replies, Assignment.from_labels(sample, labels), set(replies).difference(sample))
        return Assignment.from_labels(list(found.cluster_of), found.cluster_of.values())

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """See `Clusterer.place`."""
        asked = taking_part(cohort, assignment, newcomers, self.sample, self.min_cluster_size)
        placing = Placing.of(asked.clients, assignment, newcomers, self.min_cluster_size, STEP)
        if not placing.undecided:
            return placing.joined(asked.clients, assignment, None)
        self.require_some(len(asked))
        return self._joined((yield from self._described(asked, slot)), assignment, newcomers)

    def _joined(self, replies: Replies, assignment: Assignment, newcomers: Iterable[ClientId]) -> Assignment:
        placing = Placing.of(list(replies), assignment, newcomers, self.min_cluster_size, STEP)
        chosen = placing.chosen(self.points(replies), not self.by_agreement) if placing.undecided else None
        return placing.joined(list(replies), assignment, chosen)

    def _described(self, cohort: Cohort, slot: str) -> Program[Replies]:
        ask = {"slot": np.array(slot), "seed": np.array(cohort.seed)}
        return (yield Ask(STEP, dict.fromkeys(cohort.clients, ask)))


def points_in(replies: Replies, dimensions: int, longest: int) -> np.ndarray:
    """The descriptors of all replies, int64 [n, dimensions].

    Raises:
        ProtocolError: one of another shape, or that is too long.
    """
    points: list[np.ndarray] = []
    for client, reply in replies.items():
        point = reply.get("descriptor")
        if point is None or point.dtype != np.int16 or point.shape != (dimensions,):
            raise ReplyError(client, f"sent no int16 descriptor of {dimensions} numbers")
        point = point.astype(np.int64)
        if int(point @ point) > longest**2:
            raise ReplyError(client, f"sent a descriptor longer than {longest}")
        points.append(point)
    return np.stack(points)
