"""How points are compared with centres, from inner products alone; see `secfpp.secure.clustering.kmeans`.

Everywhere, `inner` are the shared inner products of all points [n, n], degree 1. Pairs s < t of clusters are in the
order of ``numpy.triu_indices``, and a difference is negative where t is the better one.
"""

from __future__ import annotations

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared, fitting
from secfpp.secure.clustering.search import Search


class SeedPairs:
    """Which of two seed points is nearer to each point, for all pairs of seed points that one run has.

    Args:
        search: its runs share what they have in common.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        used = [
            (seeds[:, first] * search.n + seeds[:, second]).ravel()
            for k, seeds in search.seeds.items()
            for first, second in [np.triu_indices(k, 1)]
        ]
        every = np.unique(np.concatenate(used)) if used else np.zeros(0, np.int64)
        self._pairs = np.stack(np.divmod(every, search.n), 1)  # [pairs, 2], first below second

    @property
    def count(self) -> int:
        """Comparisons: pairs times points."""
        return self._search.n * len(self._pairs)

    def differences(self, inner: Shared) -> Shared:
        """Squared distance to the second minus that to the first, [pairs n]."""
        a, b = self._pairs[:, 0], self._pairs[:, 1]
        squares = _squares(inner)
        value = (squares[b] - squares[a])[:, None] - (inner[b] - inner[a]) * 2
        return value.reshape(-1)

    def of(self, beats: Shared, k: int) -> Shared:
        """The bits [K (K - 1) / 2, runs, n] that the runs of K clusters need, from all of them [pairs n]."""
        number = {tuple(pair): i for i, pair in enumerate(self._pairs.tolist())}
        seeds = self._search.seeds[k].tolist()
        index = [[number[row[s], row[t]] for row in seeds] for s, t in zip(*np.triu_indices(k, 1), strict=True)]
        table = beats.reshape(-1, self._search.n)
        return table[np.array(index, np.int64).reshape(-1, len(seeds))]


def seed_costs(inner: Shared, members: Shared, seeds: np.ndarray) -> Shared:
    """How far points are from their seed point, less what all runs have in common, [runs].

    Args:
        inner: see the module.
        members: [K, runs, n].
        seeds: [runs, K].
    """
    distances = _squares(inner)[:, None] - inner * 2  # of a seed to a point, less what all seeds share
    return (members * distances[seeds.T]).sum(2).sum(0)


def differences(inner: Shared, weights: Shared, pool: Pool) -> Computation[Shared]:
    """n_s^2 h_it - n_t^2 h_is for s < t, [pairs, runs, n], for clusters of these weights of points [K, runs, n]."""
    total = weights.sum(2)  # n_s, [K, runs]
    inward = yield from fitting(_inward(inner, weights), 1, pool)  # q_is
    norm = (weights * inward).sum(2)  # Q_s
    scores = norm[..., None] - total[..., None] * inward * 2  # h_is
    squares = total * total
    scores = yield from fitting(scores, squares.degree, pool)
    s, t = np.triu_indices(len(weights.values), 1)
    return squares[s][..., None] * scores[t] - squares[t][..., None] * scores[s]


def norms(inner: Shared, members: Shared, pool: Pool) -> Computation[Shared]:
    """Squared lengths of the clusters' sums, [K, runs]."""
    inward = yield from fitting(_inward(inner, members), members.degree, pool)
    return (members * inward).sum(2)


def total(inner: Shared) -> Shared:
    """The sum of all squared lengths."""
    return _squares(inner).sum(0)


def _squares(inner: Shared) -> Shared:
    every = np.arange(len(inner.values))
    return inner[every, every]


def _inward(inner: Shared, weights: Shared) -> Shared:
    """Sums of inner products of each point with the members of each cluster, [K, runs, n]."""
    return (weights.reshape(-1, weights.shape[2]) @ inner).reshape(*weights.shape)
