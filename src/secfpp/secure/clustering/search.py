"""Which runs of k-means are made for a cohort, and which of them wins: public, the same in the clear and on shares.

Many runs begin and few go on: the first iteration assigns points to seed points, and of each group of runs only the one
whose seeds lie nearest to the points goes on to the other iterations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from secfpp.secure.clustering import kmeans
from secfpp.seeding import derive

STARTS = 32
"""Of more points, only so many start clusters: first comparisons grow with the pairs of those, and not of all."""


@dataclass(frozen=True)
class Search:
    """All candidates for one cohort.

    Args:
        n: points.
        dimensions: their coordinates.
        radius: largest length of a point.
        seeds: for each number of clusters K tried, the points that start the clusters of each run, int64 [runs, K],
            ascending in each run.
        finalists: how many runs for each K go on after the first iteration; all of fewer.
        iterations: of Lloyd in each run.
        min_size: fewest members of a cluster.
        pull: weight of a member beside its cluster's seed.
        self_products: whether points have products with themselves, see `secfpp.secure.clustering.agreement`.
    """

    n: int
    dimensions: int
    radius: int
    seeds: Mapping[int, np.ndarray]
    finalists: int
    iterations: int
    min_size: int
    pull: int
    self_products: bool = True

    @classmethod
    def plan(
        cls,
        *,
        n: int,
        dimensions: int,
        radius: int,
        k: int | None,
        k_max: int,
        restarts: int,
        finalists: int,
        iterations: int,
        min_size: int,
        pull: int,
        seed: int,
        round_: int,
        self_products: bool = True,
    ) -> Search:
        """The runs for `n` points: random seed points, of `STARTS` random points, by `seed` and `round_` only.

        K is tried from 1 to `k_max`, or `k` alone, as far as clusters of `min_size` fit; K = 1 needs one run.
        """
        orders = _orders(n, restarts, seed, round_)
        fitting = n // min_size
        tried = range(1, min(k_max, fitting) + 1) if k is None else [k] if k <= fitting else []
        seeds = {number: np.sort(orders[: restarts if number > 1 else 1, :number], axis=1) for number in tried}
        return cls(n, dimensions, radius, seeds, finalists, iterations, min_size, pull, self_products)

    @property
    def first_bound(self) -> int:
        """Largest difference of two squared distances between points; without self-products, of two such products."""
        return 4 * self.radius**2

    @property
    def cost_bound(self) -> int:
        """Largest difference of two runs' costs, see `secfpp.secure.clustering.kmeans.seed_costs`."""
        return self.n * self.first_bound

    @property
    def bound(self) -> int:
        """Largest difference of scores in an iteration, see `secfpp.secure.clustering.kmeans.require_range`."""
        return kmeans.score_bound(self.n, self.radius, self.pull, self.self_products)

    def groups(self, k: int) -> np.ndarray:
        """Numbers of the runs with K clusters, those in a row of which one goes on, int64 [finalists, members].

        Rows are ascending; one that is short ends with repeats of its first member.
        """
        runs = len(self.seeds[k])
        rows = min(self.finalists, runs)
        table = np.arange(-(-runs // rows) * rows).reshape(-1, rows).T
        return np.where(table < runs, table, table[:, :1])

    def winners(self, costs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The runs that go on, int64 [finalists] for each K: of each group that of least cost, the first of several.

        Args:
            costs: for each K those of all runs [runs].
        """
        groups = {k: self.groups(k) for k in self.seeds}
        return {k: rows[np.arange(len(rows)), costs[k][rows].argmin(1)] for k, rows in groups.items()}

    def finished(self, inner: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
        """What the runs (K, number) that go on end with, in the clear: clusters of the points, int64 [n] each.

        Args:
            inner: inner products of all points, int64 [n, n].
        """
        winners = self.winners({k: kmeans.seed_costs(inner, seeds) for k, seeds in self.seeds.items()})
        return {
            (k, number): labels
            for k, numbers in winners.items()
            for number, labels in zip(
                numbers.tolist(),
                kmeans.lloyd(inner, self.seeds[k][numbers], self.iterations, self.pull),
                strict=True,
            )
        }

    def best(self, candidates: Mapping[tuple[int, int], tuple[Sequence[int], int]]) -> tuple[int, int] | None:
        """The winner among runs (K, number), given their clusters' sizes and their inertia.

        Runs with a cluster below `min_size` do not count. Then K's run of least inertia is its candidate, the first of
        several, and the best BIC wins, the smallest K of several.
        """
        least: dict[int, tuple[int, int]] = {}
        for (k, run), (sizes, inertia) in sorted(candidates.items()):
            if self.admits(sizes) and (k not in least or inertia < least[k][0]):
                least[k] = inertia, run
        scores = {
            (k, run): kmeans.bic(inertia, candidates[k, run][0], self.dimensions) for k, (inertia, run) in least.items()
        }
        return max(scores, key=lambda candidate: (scores[candidate], -candidate[0]), default=None)

    def admits(self, sizes: Sequence[int]) -> bool:
        """Whether all clusters are large enough."""
        return min(sizes) >= self.min_size


@lru_cache(maxsize=4)  # clients that share a process ask for the same
def _orders(n: int, restarts: int, seed: int, round_: int) -> np.ndarray:
    """Points that may start clusters, in a random order for each run, int64 [restarts, points]."""
    pool = np.arange(n) if n <= STARTS else derive(seed, "kmeans", round_).numpy().permutation(n)[:STARTS]
    drawn = [derive(seed, "kmeans", round_, run).numpy().permutation(len(pool)) for run in range(restarts)]
    orders: np.ndarray = pool[np.stack(drawn)]
    orders.setflags(write=False)
    return orders
