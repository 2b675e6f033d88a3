"""Groups by agreement on shared points, as one holder computes them; see `secfpp.secure.clustering.agreement`.

Only this is opened besides uniform masks: which pairs of points are together in the best run. Which run that is, what
it costs, and how large the clusters of others are stays secret.

The steps are those of `secfpp.secure.clustering.iterations`, with one exchange more for the first iteration, and
`Agreed._found`: masked sizes, comparisons of all runs' costs, the rotated best, and the pairs; 5 exchanges, so that it
is 3 I + 9 in all by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from secfpp.crypto.arithmetic import (
    Computation,
    Future,
    Pool,
    Shared,
    concatenate,
    fitting,
    opened,
    side_by_side,
    stack,
    together,
)
from secfpp.crypto.comparison import Comparator, Masks
from secfpp.crypto.field import PrimeField
from secfpp.crypto.lookup import DrawnLookup, Lookup
from secfpp.crypto.minimum import DrawnRotations, Rotations, defeats
from secfpp.secure.clustering import agreement, scores
from secfpp.secure.clustering.clusters import Clusters
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.iterations import Iterations
from secfpp.secure.clustering.kmeans import reciprocal
from secfpp.secure.clustering.runs import Assigned


class Late(NamedTuple):
    """Material that is not needed before the contest.

    Attributes:
        hiding: for each K with a contest what hides who wins it.
        counts: for functions of the sizes of clusters.
        masks: for comparing the costs of all pairs of runs that went on.
        rotation: for the best of them.
    """

    hiding: Mapping[int, Rotations]
    counts: Lookup
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
        levels = 1 if self.limit == 5 else 2
        return Comparator.plan(agreement.cost_bound(self.search), self.threshold, self.limit, levels)

    @property
    def ordered(self) -> bool:
        """See `Iterations.ordered`."""
        return False

    @property
    def finalists(self) -> int:
        """How many candidates there are at the end: runs, and one cluster if that is not one of them."""
        return sum(len(self.search.groups(k)) for k in self.search.seeds) + (1 not in self.search.seeds)

    @property
    def clusters(self) -> int:
        """How many clusters all runs with several have at the end."""
        return sum(k * len(self.search.groups(k)) for k in self.search.seeds if k > 1)

    def run(self, points: Shared, pool: Pool) -> Computation[Found]:
        """Group `points` [n, d], degree 1."""
        late = Future(self._late(pool))
        _, found = yield from side_by_side(late.run(), self._found(points, late, pool))
        return found

    def _late(self, pool: Pool) -> Computation[Late]:
        groups = {k: self.search.groups(k).shape for k in self.search.seeds}
        contests = {k: (size, rows) for k, (rows, size) in groups.items() if size > 1}
        rotations, counts, masks = yield from side_by_side(
            together([_rotations(*shape, pool) for shape in (*contests.values(), (self.finalists, 1))]),
            _lookup(self.search.n, self.clusters, pool),
            _masks(self.total, self.finalists * (self.finalists - 1) // 2, pool),
        )
        return Late(dict(zip(contests, rotations[:-1], strict=True)), counts, masks, rotations[-1])

    def _found(self, points: Shared, late: Future[Late], pool: Pool) -> Computation[Found]:
        inner, last = yield from self.ended(points, pool, lambda: late.result.hiding)
        if 1 not in self.search.seeds:
            last = [*last, Clusters(1, Assigned.everybody(self.search.n), None)]
        costs = yield from self._costs(inner, last, late.result.counts, pool)
        chosen = yield from self._least(costs, late.result, pool)
        labels, whole = yield from _together(last, chosen, self.search.n)
        k = int(labels.max()) + 1
        return Found(labels if k > 1 or 1 in self.search.seeds else None, k, {}, {}, 0, {}, whole)

    def _costs(self, inner: Shared, last: Sequence[Clusters], counts: Lookup, pool: Pool) -> Computation[Shared]:
        """What all candidates cost [finalists]; one exchange."""
        several = [of for of in last if of.k > 1]
        sizes = [of.last.members.sum(2).reshape(-1) for of in several]
        turned, norms = yield from side_by_side(
            counts.turned(concatenate(sizes), pool), together([self._norms(of, inner, pool) for of in several])
        )
        possible = range(self.search.n + 1)
        weights = counts.value(turned, PrimeField.lift(np.array([reciprocal(size) for size in possible])))
        small = counts.value(turned, PrimeField.lift(np.array([int(size < self.search.min_size) for size in possible])))
        costs, start = [], 0
        for of, norm in zip(several, norms, strict=True):
            part = slice(start, start + norm.shape[0] * norm.shape[1])
            weight, missing = (values[part].reshape(*norm.shape) for values in (weights, small))
            cost = missing * agreement.too_small(self.search) - norm * weight
            costs.append(cost.sum(0) + self.allowances.get(of.k, 0))
            start = part.stop
        one = Shared.public(np.array([0 if 1 in self.search.seeds else agreement.nothing_found(self.search)]))
        return concatenate([one, *costs] if 1 in self.search.seeds else [*costs, one])

    def _norms(self, of: Clusters, inner: Shared, pool: Pool) -> Computation[Shared]:
        """Sums of the products of all members of a cluster [K, runs]."""
        norms = yield from scores.norms(inner, of.last.members, pool)
        return (yield from fitting(norms, 1, pool))

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


def _lookup(largest: int, count: int, pool: Pool) -> Computation[Lookup]:
    drawn = yield from DrawnLookup.prepare(largest, count, pool)
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
