"""Groups by agreement on shared points, as one holder computes them; see `secfpp.secure.clustering.agreement`.

Only this is opened besides uniform masks:

* for every run that goes on after the first iteration the sizes of its clusters, in secret order; which runs of the
  many that began these are, stays secret,
* which pairs of points are together in the best run. Which run that is, and what it costs, stays secret.

The steps are those of `secfpp.secure.clustering.iterations`, with one exchange more for the first iteration, and
`Agreed._outcome`: sizes, comparisons of all runs' costs, the rotated best, and the pairs; 5 exchanges, so that it is
3 I + 9 in all by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from secfpp.crypto.arithmetic import Computation, Future, Pool, Shared, opened, side_by_side, stack, together
from secfpp.crypto.comparison import Comparator, Masks
from secfpp.crypto.minimum import DrawnRotations, Rotations, defeats
from secfpp.secure.clustering import agreement
from secfpp.secure.clustering.clusters import Clusters, Run, norms, sizes
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.iterations import Iterations
from secfpp.secure.clustering.kmeans import reciprocal


class Late(NamedTuple):
    """Material that is not needed before the contest.

    Attributes:
        hiding: for each K with a contest what hides who wins it.
        masks: for comparing the costs of all pairs of runs that went on.
        rotation: for the best of them.
    """

    hiding: Mapping[int, Rotations]
    masks: Masks
    rotation: Rotations


@dataclass(frozen=True)
class Agreed(Iterations):
    """All runs of a search without self-products, of which the one of least cost wins.

    Args:
        allowances: see `secfpp.secure.clustering.agreement.allowances`.
    """

    allowances: Mapping[int, int] = field(default_factory=dict)

    @property
    def nearer(self) -> Comparator:
        """How products with seed points are compared.

        If there is a contest, one exchange more than as soon as can be is taken for far fewer openings, here and where
        the best are chosen; the contest takes one less.
        """
        if self.scaling:
            return super().nearer
        degree = self.limit - 2
        return Comparator.plan(self.search.first_bound, self.threshold, self.limit, 1, degree=degree)

    @property
    def scaling(self) -> bool:
        """See `Iterations.scaling`."""
        contested = any(self.search.groups(k).shape[1] > 1 for k in self.search.seeds)
        return self.limit < 5 or not contested

    @property
    def total(self) -> Comparator:
        """How the costs of runs at their end are compared."""
        return Comparator.plan(agreement.cost_bound(self.search), self.threshold, self.limit, self.levels)

    @property
    def finalists(self) -> int:
        """How many runs there are at the end."""
        return sum(len(self.search.groups(k)) for k in self.search.seeds)

    def run(self, points: Shared, pool: Pool) -> Computation[Found]:
        """Group `points` [n, d], degree 1."""
        late = Future(self._late(pool))
        _, found = yield from side_by_side(late.run(), self._found(points, late, pool))
        return found

    def _late(self, pool: Pool) -> Computation[Late]:
        groups = {k: self.search.groups(k).shape for k in self.search.seeds}
        contests = {k: (size, rows) for k, (rows, size) in groups.items() if size > 1}
        rotations, masks = yield from side_by_side(
            together([_rotations(*shape, pool) for shape in (*contests.values(), (self.finalists, 1))]),
            _masks(self.total, self.finalists * (self.finalists - 1) // 2, pool),
        )
        return Late(dict(zip(contests, rotations[:-1], strict=True)), masks, rotations[-1])

    def _found(self, points: Shared, late: Future[Late], pool: Pool) -> Computation[Found]:
        inner, last = yield from self.ended(points, pool, lambda: late.result.hiding)
        shown = yield from sizes(last)
        costs = yield from self._costs(inner, last, shown, pool)
        chosen = yield from self._least(costs, late.result, pool)
        if not any(map(self.search.admits, shown.values())):
            return Found(None, 1, shown, {}, 0, {})
        labels, whole = yield from _together(last, chosen, self.search.n)
        return Found(labels, int(labels.max()) + 1, shown, {}, 0, {}, whole)

    def _costs(
        self, inner: Shared, last: Sequence[Clusters], shown: Mapping[Run, tuple[int, ...]], pool: Pool
    ) -> Computation[Shared]:
        """What all runs cost [runs]."""
        found = yield from norms(last, inner, pool)
        costs = []
        for run, of_run in shown.items():
            if not self.search.admits(of_run):
                costs.append(Shared.public(np.array(agreement.inadmissible(self.search))))
            elif run[0] == 1:
                costs.append(Shared.public(np.array(0)))
            else:
                weights = Shared.public(np.array([reciprocal(size) for size in of_run]))
                costs.append(self.allowances.get(run[0], 0) - (found[run] * weights).sum(0))
        return stack(costs, axis=0)

    def _least(self, costs: Shared, late: Late, pool: Pool) -> Computation[Shared]:
        """Bits [runs] of which the one of the least cost is 1, the first of several."""
        s, t = np.triu_indices(self.finalists, 1)
        beats = yield from late.masks.negative(costs[t] - costs[s], pool)
        loss = defeats(beats.reshape(-1, 1), self.finalists)
        chosen, _ = yield from late.rotation.minimum(loss, pool)
        return chosen[:, 0]


def _rotations(candidates: int, count: int, pool: Pool) -> Computation[Rotations]:
    drawn = yield from DrawnRotations.prepare(candidates, count, pool)
    return (yield from drawn.expand(pool))


def _masks(comparator: Comparator, count: int, pool: Pool) -> Computation[Masks]:
    drawn = yield from comparator.prepare(count, pool)
    return (yield from drawn.expand(pool))


def _together(last: Sequence[Clusters], chosen: Shared, n: int) -> Computation[tuple[np.ndarray, bool]]:
    """Labels from the pairs of points that are together in the run of `chosen` [runs], and whether these fit."""
    members = [of.last.members[:, run] for of in last for run in range(len(of.last.numbers))]  # [K, n] each
    upper = np.triu_indices(n, 1)
    pairs = stack([(each.transpose(1, 0) @ each)[upper] for each in members], axis=1)
    (public,) = yield from opened([(pairs * chosen).sum(1)])
    table = np.eye(n, dtype=np.uint64)
    table[upper] = public
    table.T[upper] = public
    labels = np.unique(table.argmax(1), return_inverse=True)[1]
    return labels, np.array_equal(table, labels[:, None] == labels)
