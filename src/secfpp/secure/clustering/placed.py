"""Points among groups on shares: only which group each one belongs to is opened, besides uniform masks.

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


@dataclass(frozen=True)
class Nearest:
    """Which of some groups points belong to; for the rule, see `Placing.chosen`.

    Args:
        weights: members of each group.
        radius: largest length of a point.
        self_products: whether points have products with themselves.
        threshold: T, or more where masks carry more, see `secfpp.crypto.comparison.Comparator.carry`.
        limit: the largest degree that is opened, in multiples of T.
    """

    weights: tuple[int, ...]
    radius: int
    self_products: bool
    threshold: int
    limit: int

    @property
    def comparisons(self) -> int:
        """How many there are for each point."""
        return len(self.weights) * (len(self.weights) - 1) // 2

    @property
    def comparator(self) -> Comparator:
        """How scores are compared, see `run`."""
        return placing_comparator(sum(self.weights), self.radius, self.self_products, self.threshold, self.limit)

    def run(self, sums: Shared, points: Shared, pool: Pool) -> Computation[np.ndarray]:
        """Which group each point belongs to, int64 [points]; -1 if holders answered wrongly.

        Group t is better than s, by the symbols of `secfpp.secure.clustering.kmeans`, if n_s^2 h_t < n_t^2 h_s; without
        self-products, if n_t q_s < n_s q_t.

        Args:
            sums: of the members of each group [groups, d], degree 1.
            points: [points, d], degree 1.
            pool: the randomness.
        """
        count, weights = points.shape[0], np.array(self.weights)[:, None]
        s, t = np.triu_indices(len(weights), 1)
        inward = sums @ points.transpose(1, 0)
        if self.self_products:
            scores = (sums * sums).sum(1)[:, None] - inward * Shared.public(2 * weights)
            squares = Shared.public(weights**2)
            differences = squares[s] * scores[t] - squares[t] * scores[s]
        else:
            counts = Shared.public(weights)
            differences = counts[t] * inward[s] - counts[s] * inward[t]
        drawn = yield from self.comparator.prepare(self.comparisons * count, pool)
        masks = Future(drawn.expand(pool))
        _, beats = yield from side_by_side(masks.run(), drawn.negative(differences.reshape(-1), masks, pool))
        loss = yield from fitting(defeats(beats.reshape(-1, count), len(weights)), 1, pool)
        (public,) = yield from opened([pool.uniform(loss.shape) * loss])  # zero for who has no defeat
        chosen: np.ndarray = np.where((public == 0).sum(0) == 1, (public == 0).argmax(0), -1)
        return chosen


def placing_comparator(members: int, radius: int, self_products: bool, threshold: int, limit: int) -> Comparator:
    """How scores among groups of so many members together are compared.

    With self-products, differences are within the bound of Lloyd's; without, |q_s| <= n_s radius^2, and two groups'
    n_s n_t is a quarter of the square of their members at most.
    """
    bound = kmeans.score_bound(members, radius, 1) if self_products else members**2 * radius**2 // 2 + 1
    return Comparator.soonest(bound, threshold, limit)


@dataclass(frozen=True)
class Placed:
    """The computation that gives newcomers a group, see `Placing.chosen`; for the rest see `Nearest`.

    Args:
        placing: who is placed, and among whom.
    """

    placing: Placing
    radius: int
    self_products: bool
    threshold: int
    limit: int

    def run(self, points: Shared, pool: Pool) -> Computation[np.ndarray]:
        """Which group each newcomer belongs to, int64 [newcomers]; -1 if holders answered wrongly.

        Args:
            points: [clients, d], degree 1.
            pool: the randomness.
        """
        members = self.placing.members
        weights = tuple(members.sum(1).tolist())
        nearest = Nearest(weights, self.radius, self.self_products, self.threshold, self.limit)
        return (yield from nearest.run(Shared.public(members) @ points, points[self.placing.newcomers], pool))
