"""SecPC: adaptive k-means on shared points, as one holder computes it.

Only this is opened besides uniform masks:

* of every group of runs which one goes on after the first iteration (see `secfpp.secure.clustering.search`),
* for every run that does the sizes of its clusters, in secret order,
* for every such run whose clusters are all large enough its inertia,
* for the winner which pairs of points are together.

The steps are those of `secfpp.secure.clustering.iterations`, and `SecPC._outcome`: sizes, inertias and the winner's
pairs; 3 exchanges, so that it is 3 I + 6 in all by default.

Sources: Hou, Li, Buyukates (arXiv 2505.22447) for clustering prompts on shares; what is opened, and all of the
circuit, is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared, gated, opened
from secfpp.crypto.field import PrimeField
from secfpp.secure.clustering import scores
from secfpp.secure.clustering.clusters import Clusters, Run, norms, sizes
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.iterations import Iterations
from secfpp.secure.clustering.kmeans import INERTIA_SCALE, reciprocal


@dataclass(frozen=True)
class SecPC(Iterations):
    """All runs of a search, of which the one of best BIC wins."""

    def run(self, points: Shared, pool: Pool) -> Computation[Found]:
        """Cluster `points` [n, d], degree 1."""
        inner, last = yield from self.ended(points, pool)
        return (yield from self._outcome(inner, last, pool))

    def _outcome(self, inner: Shared, last: Sequence[Clusters], pool: Pool) -> Computation[Found]:
        shown = yield from sizes(last)
        inertia = yield from self._inertia(last, shown, inner, pool)
        undecided = sum(clusters.last.undecided for clusters in last)
        assignments = {(of.k, r): labels for of in last for r, labels in of.last.history.items()}
        best = self.search.best({run: (shown[run], inertia[run]) for run in inertia})
        if best is None:
            return Found(None, 1, shown, inertia, undecided, assignments)
        labels, whole = yield from self._together(last, best)
        return Found(labels, best[0], shown, inertia, undecided, assignments, whole)

    def _inertia(
        self, last: Sequence[Clusters], shown: dict[Run, tuple[int, ...]], inner: Shared, pool: Pool
    ) -> Computation[dict[Run, int]]:
        """Inertias of all runs whose clusters are large enough."""
        squares = scores.total(inner) * INERTIA_SCALE
        found = yield from norms(last, inner, pool)
        nothing = gated(Shared.public(np.zeros(len(shown), np.int64)), pool)
        values = {}
        for guard, (run, of_run) in zip(nothing, shown.items(), strict=True):
            if self.search.admits(of_run):
                weights = Shared.public(np.array([reciprocal(size) for size in of_run]))
                values[run] = squares - (found[run] * weights).sum(0) + guard
        public = yield from opened(list(values.values()))
        return {run: int(PrimeField.lower(value)) for run, value in zip(values, public, strict=True)}

    def _together(self, last: Sequence[Clusters], best: Run) -> Computation[tuple[np.ndarray, bool]]:
        """The winner's labels from the pairs of points that are together, and whether these are a partition's."""
        clusters = next(of for of in last if of.k == best[0])
        members = clusters.last.members[:, clusters.names.index(best)]  # [K, n]
        (pairs,) = yield from opened([members.transpose(1, 0) @ members])
        labels = np.unique(pairs.argmax(1), return_inverse=True)[1]
        return labels, np.array_equal(pairs, labels[:, None] == labels)
