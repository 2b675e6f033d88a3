"""Newcomers on shares: only which group each one belongs to is opened, besides uniform masks.

Exchanges: random signs; differences of scores under their masks, while digits are prepared; one for each level of
digits; the groups. By default 4 in all, 3 of small numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secfpp.crypto.arithmetic import Computation, Future, Pool, Shared, fitting, opened, side_by_side
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.minimum import defeats
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.placing import Placing


def placing_comparator(clients: int, radius: int, threshold: int, limit: int) -> Comparator:
    """How scores are compared: their differences are within the bound of Lloyd's, with self-products or without."""
    return Comparator.soonest(kmeans.score_bound(clients, radius, 1), threshold, limit)


@dataclass(frozen=True)
class Placed:
    """The computation that gives newcomers a group, see `Placing.chosen`.

    Args:
        placing: who is placed, and among whom.
        radius: largest length of a point.
        self_products: whether points have products with themselves.
        threshold: T, or more where masks carry more, see `secfpp.crypto.comparison.Comparator.carry`.
        limit: the largest degree that is opened, in multiples of T.
    """

    placing: Placing
    radius: int
    self_products: bool
    threshold: int
    limit: int

    @property
    def comparisons(self) -> int:
        """How many there are."""
        groups = len(self.placing.groups)
        return len(self.placing.newcomers) * groups * (groups - 1) // 2

    def run(self, points: Shared, pool: Pool) -> Computation[np.ndarray]:
        """Which group each newcomer belongs to, int64 [newcomers]; -1 if holders answered wrongly.

        Args:
            points: [clients, d], degree 1.
            pool: the randomness.
        """
        members, newcomers = self.placing.members, self.placing.newcomers
        groups, weights = len(members), members.sum(1)
        sums = Shared.public(members) @ points
        scores = (sums @ points[newcomers].transpose(1, 0)) * Shared.public(-2 * weights[:, None])
        if self.self_products:
            scores = scores + (sums * sums).sum(1)[:, None]
        s, t = np.triu_indices(groups, 1)
        squares = Shared.public(weights[:, None] ** 2)
        differences = squares[s] * scores[t] - squares[t] * scores[s]
        comparator = placing_comparator(members.shape[1], self.radius, self.threshold, self.limit)
        drawn = yield from comparator.prepare(self.comparisons, pool)
        masks = Future(drawn.expand(pool))
        _, beats = yield from side_by_side(masks.run(), drawn.negative(differences.reshape(-1), masks, pool))
        loss = yield from fitting(defeats(beats.reshape(-1, len(newcomers)), groups), 1, pool)
        (public,) = yield from opened([pool.uniform(loss.shape) * loss])  # zero for who has no defeat
        chosen: np.ndarray = np.where((public == 0).sum(0) == 1, (public == 0).argmax(0), -1)
        return chosen
