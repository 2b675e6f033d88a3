"""What members make of the class sums that they share, see `secfpp.algorithms.sharing`.

The attackers are clients who put together all they hold: everybody's sums, those of their groups and their own; maybe
with the server, who knows the groups and which classes each of them shares. They take away what they know, and what is
left of a class splits into *parts*: one for each of their groups, and one for all other clients. They ask of others

* what it is: the mean of a part is their guess at the class means of each client in it, and exact if it is one's alone;
* who has it: a part's images are spread over its clients, and the bits that were opened bound how many have any.

Whether one image is in it: see `secfpp.attacks.membership`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.models.class_means import ClassSums

NOWHERE = -1


@dataclass(frozen=True)
class Shared:
    """The class sums that a run shares.

    Attributes:
        everybody: of all clients.
        groups: of each group, by its number.
        partition: each client's group, int [clients].
    """

    everybody: ClassSums
    groups: Sequence[ClassSums]
    partition: np.ndarray

    @classmethod
    def by_rule(cls, own: Sequence[ClassSums], partition: np.ndarray, least: int) -> Shared:
        """What the rule shares: of all clients and of each group the classes that `least` of them have images of.

        Args:
            own: every client's sums.
            partition: each client's group, numbers from 0.
            least: see `secfpp.algorithms.visual.ClassMeans.min_holders`.
        """

        def total(members: Iterable[int]) -> ClassSums:
            chosen = [own[member] for member in members]
            counts = np.array([sums.counts for sums in chosen])
            every = ClassSums(np.sum([sums.sums for sums in chosen], 0), counts.sum(0))
            return every.only((counts > 0).sum(0) >= least)

        members = [np.flatnonzero(partition == group).tolist() for group in range(int(partition.max()) + 1)]
        return cls(total(range(len(own))), [total(group) for group in members], partition)

    @property
    def bits(self) -> np.ndarray:
        """Which classes each group shares, bool [groups, n_cls]: what its poll opened."""
        return np.array([has(group) for group in self.groups])


@dataclass(frozen=True)
class Parts:
    """What is left of shared sums once attackers have taken away what they know.

    Attributes:
        sums: of features, float64 [parts, n_cls, dim].
        counts: of images, float64 [parts, n_cls].
        place: the part in which a client's images of a class are, if it has any, int [clients, n_cls]; `NOWHERE` for
            attackers, and if no attacker holds a sum of them.
    """

    sums: np.ndarray
    counts: np.ndarray
    place: np.ndarray

    @classmethod
    def left_to(cls, own: Mapping[int, ClassSums], shared: Shared) -> Parts:
        """What attackers are left with.

        Args:
            own: the attackers' own sums, by their number.
            shared: of which they use everybody's and those of their own groups.
        """
        partition, everywhere = shared.partition, has(shared.everybody)
        place = np.tile(np.where(everywhere, 0, NOWHERE), (len(partition), 1))
        others, parts = shared.everybody, list[ClassSums]()
        for number, group in enumerate(sorted({int(partition[attacker]) for attacker in own}), 1):
            theirs, given = shared.groups[group], has(shared.groups[group])
            for sums in (own[attacker] for attacker in own if partition[attacker] == group):
                theirs, others = theirs - sums.only(given), others - sums.only(everywhere & ~given)
            others = others - shared.groups[group].only(everywhere)
            place[np.ix_(partition == group, given)] = number
            parts.append(theirs)
        place[list(own)] = NOWHERE
        every = [others, *parts]
        return cls(np.array([p.sums for p in every]), np.array([p.counts for p in every]), place)

    def guesses(self) -> np.ndarray:
        """The attackers' guess at each client's mean of each class, float64 [clients, n_cls, dim]; NaN for none."""
        means = self.sums / np.maximum(self.counts, 1e-9)[..., None]
        found: np.ndarray = np.where(self.place[..., None] < 0, np.nan, self._of_clients(means))
        return found

    def alone(self, holds: np.ndarray) -> np.ndarray:
        """Where a client is the only one in its part who has the class: the guess is exact; bool [clients, n_cls].

        Args:
            holds: who has images of which class, bool [clients, n_cls].
        """
        found: np.ndarray = holds & (self.place >= 0) & (self._among(holds) == 1)
        return found

    def images(self, sizes: np.ndarray) -> np.ndarray:
        """Each part's images of a class spread over its clients, float64 [clients, n_cls]; 0 where nothing is known.

        Args:
            sizes: images that each client has in all [clients]; clients know them as weights of means.
        """
        weights = np.broadcast_to(sizes[:, None], self.place.shape)
        share = weights / np.maximum(self._among(weights), 1e-9)
        found: np.ndarray = np.where(self.place < 0, 0.0, share * self._of_clients(self.counts))
        return found

    def _among(self, values: np.ndarray) -> np.ndarray:
        """The sum of `values` [clients, n_cls] over the part that each one is in."""
        totals = np.array([(values * (self.place == part)).sum(0) for part in range(len(self.counts))])
        return self._of_clients(totals)

    def _of_clients(self, values: np.ndarray) -> np.ndarray:
        """Those of `values` [parts, n_cls, ...] that belong to the place of each client and class."""
        found: np.ndarray = values[self.place, np.arange(self.place.shape[1])]
        return found


def certain(own: Mapping[int, ClassSums], shared: Shared, parts: Parts, least: int) -> np.ndarray:
    """What attackers know for sure: 1 the client has the class, -1 it has not, 0 open; int [clients, n_cls].

    Of each of their groups they know whether `least` members have a class, and which of themselves do.
    """
    found = np.where((parts.place >= 0) & (parts.images(np.ones(len(parts.place))) < 1e-3), -1, 0)
    for group in {int(shared.partition[attacker]) for attacker in own}:
        others = [c for c in np.flatnonzero(shared.partition == group).tolist() if c not in own]
        holders = np.sum([has(own[a]) for a in own if shared.partition[a] == group], 0)
        given = has(shared.groups[group])
        found[np.ix_(others, given & (least - holders >= len(others)))] = 1
        found[np.ix_(others, ~given & (holders >= least - 1))] = -1
    return found


def relative_error(guesses: np.ndarray, truth: np.ndarray, usual: np.ndarray) -> float:
    """Root mean square error of `guesses` at class means, as a share of that of `usual` ones; all [pairs, dim]."""
    return float(np.sqrt(((guesses - truth) ** 2).sum() / ((usual - truth) ** 2).sum()))


def has(sums: ClassSums) -> np.ndarray:
    """Of which classes there are images, bool [n_cls]; decoded counts are only nearly whole."""
    found: np.ndarray = sums.counts > 0.5
    return found
