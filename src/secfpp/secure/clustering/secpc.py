"""SecPC: adaptive k-means on shared points, as one holder computes it.

The result is that of `secfpp.secure.clustering.kmeans` on the same integers, assignment for assignment: every candidate
number of clusters and every restart run side by side, assignments stay shared, and only this is opened besides uniform
masks:

* of every group of runs which one goes on after the first iteration (see `secfpp.secure.clustering.search`),
* for every run that does the sizes of its clusters, in secret order,
* for every such run whose clusters are all large enough its inertia,
* for the winner which pairs of points are together.

The steps, and their exchanges by default (3 I + 6 in all; 3 I + 3 if all runs go on):

1. `SecPC._prepare`: inner products, and material for everything that follows; 1.
2. `SecPC._first`: the first iteration, with points compared by their distances to seed points; 2.
3. `SecPC._contest`: which runs go on; 3.
4. `SecPC._iterate`: each further iteration; 3.
5. `SecPC._outcome`: sizes, inertias and the winner's pairs; 3.

Sources: Hou, Li, Buyukates (arXiv 2505.22447) for clustering prompts on shares; what is opened, and all of the
circuit, is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from secfpp.crypto.arithmetic import (
    Computation,
    Future,
    Pool,
    Shared,
    fitting,
    lowered,
    opened,
    side_by_side,
    together,
)
from secfpp.crypto.comparison import Comparator, DrawnMasks
from secfpp.crypto.field import PrimeField
from secfpp.secure.clustering import scores
from secfpp.secure.clustering.found import Found, Reveal
from secfpp.secure.clustering.kmeans import INERTIA_SCALE, reciprocal
from secfpp.secure.clustering.runs import Assigned, Drawn, Expanded, Runs, expanded
from secfpp.secure.clustering.search import Search


class Prepared(NamedTuple):
    """Everything that needs no comparison: inner products [n, n] of degree 1, and drawn material.

    Attributes:
        inner: the inner products.
        nearer: for comparing distances to seed points.
        runs: for each K above 1.
    """

    inner: Shared
    nearer: DrawnMasks
    runs: Sequence[Drawn]


class Clusters(NamedTuple):
    """The runs of one K at the end: where they are, and their secret orders of clusters, see `Drawn`."""

    k: int
    last: Assigned
    order: Shared | None

    @property
    def names(self) -> list[tuple[int, int]]:
        """The runs (K, number)."""
        return [(self.k, number) for number in self.last.numbers.tolist()]

    def reordered(self, values: Shared) -> Shared:
        """Values of the clusters [K, runs] in each run's secret order, [runs, K]."""
        values = values.transpose(1, 0)
        return values if self.order is None else (self.order * values[:, None, :]).sum(2)

    def norms(self, inner: Shared, pool: Pool) -> Computation[Shared]:
        """Squared lengths of the clusters' sums, in secret order [runs, K]."""
        values = yield from scores.norms(inner, self.last.members, pool)
        if self.order is not None:
            values = yield from fitting(values, 1, pool)
        return self.reordered(values)


@dataclass(frozen=True)
class SecPC:
    """The computation for one search.

    Args:
        search: the public candidates.
        threshold: T.
        limit: the largest degree that is opened, in multiples of T.
        levels: exchanges for combining digits of a comparison.
        bits: compare so many bits only (fast), or all (None).
        reveal: ``partition``, or ``assignments`` to open those of every iteration too.
    """

    search: Search
    threshold: int
    limit: int
    levels: int
    bits: int | None = None
    reveal: Reveal = "partition"

    @property
    def nearer(self) -> Comparator:
        """How distances to seed points are compared."""
        return self._exact(self.search.first_bound)

    @property
    def contest(self) -> Comparator:
        """How the costs of runs are compared."""
        return self._exact(self.search.cost_bound)

    @property
    def later(self) -> Comparator:
        """How scores are compared in all iterations but the first."""
        return Comparator.plan(self.search.bound, self.threshold, self.limit, self.levels, self.bits)

    def _exact(self, bound: int) -> Comparator:
        """All bits, in as few exchanges as digits allow that are ready when they are used."""
        levels = 0
        while max((plan := Comparator.plan(bound, self.threshold, self.limit, levels)).widths) > self.limit:
            levels += 1
        return plan

    @property
    def _runs(self) -> list[Runs]:
        """The runs of each K for which there is something to compare."""
        return [Runs(self.search, k, self.reveal == "partition") for k in self.search.seeds if k > 1]

    def run(self, points: Shared, pool: Pool) -> Computation[Found]:
        """Cluster `points` [n, d], degree 1."""
        inner, material, runs = yield from self._first((yield from self._prepare(points, pool)), pool)
        runs = yield from self._contest(inner, runs, material, pool)
        for number in range(self.search.iterations - 1):
            runs = yield from self._iterate(number, inner, runs, material, pool)
        everyone = Assigned(np.zeros(1, np.int64), Shared.public(np.ones((1, 1, self.search.n), np.int64)))
        last = [Clusters(1, everyone, None)] if 1 in self.search.seeds else []
        last += [
            Clusters(of.k, assigned, expanded_.order)
            for of, assigned, expanded_ in zip(self._runs, runs, material, strict=True)
        ]
        return (yield from self._outcome(inner, last, pool))

    def _prepare(self, points: Shared, pool: Pool) -> Computation[Prepared]:
        upper = np.triu_indices(self.search.n)
        gram = (points @ points.transpose(1, 0)).values[upper]
        (reduced,), nearer, runs = yield from side_by_side(
            lowered([Shared(gram, 2)], pool),
            self.nearer.prepare(scores.SeedPairs(self.search).count, pool),
            together([runs.draw(self.contest, self.later, pool) for runs in self._runs]),
        )
        inner = np.zeros((self.search.n, self.search.n), np.uint64)
        inner[upper] = reduced.values
        inner.T[upper] = reduced.values
        return Prepared(Shared(inner, 1), nearer, runs)

    def _first(
        self, prepared: Prepared, pool: Pool
    ) -> Computation[tuple[Shared, Sequence[Expanded], Sequence[Assigned]]]:
        """The first iteration; while its differences are opened, all material is expanded."""
        (inner, nearer, drawn), pairs = prepared, scores.SeedPairs(self.search)
        masks = Future(nearer.expand(pool))
        comparing = nearer.negative(pairs.differences(inner), masks, pool)
        expanding = together([expanded(material, pool) for material in drawn])
        del prepared, nearer, drawn  # large, and not needed while the exchange lasts
        _, material, beats = yield from side_by_side(masks.run(), expanding, comparing)
        runs = yield from together(
            [
                of.first(pairs.of(beats, of.k), expanded_.first, pool)
                for of, expanded_ in zip(self._runs, material, strict=True)
            ]
        )
        return inner, material, runs

    def _contest(
        self, inner: Shared, runs: Sequence[Assigned], material: Sequence[Expanded], pool: Pool
    ) -> Computation[list[Assigned]]:
        every = zip(self._runs, runs, material, strict=True)
        return (yield from together([of.contest(inner, before, mine.contest, pool) for of, before, mine in every]))

    def _iterate(
        self, number: int, inner: Shared, runs: Sequence[Assigned], material: Sequence[Expanded], pool: Pool
    ) -> Computation[list[Assigned]]:
        every = zip(self._runs, runs, material, strict=True)
        return (
            yield from together([of.iterate(inner, before, mine.later[number], pool) for of, before, mine in every])
        )

    def _outcome(self, inner: Shared, last: Sequence[Clusters], pool: Pool) -> Computation[Found]:
        sizes = yield from self._sizes(last)
        inertia = yield from self._inertia(last, sizes, inner, pool)
        undecided = sum(clusters.last.undecided for clusters in last)
        assignments = {(of.k, r): labels for of in last for r, labels in of.last.history.items()}
        best = self.search.best({run: (sizes[run], inertia[run]) for run in inertia})
        if best is None:
            return Found(None, 1, sizes, inertia, undecided, assignments)
        labels, whole = yield from self._together(last, best)
        return Found(labels, best[0], sizes, inertia, undecided, assignments, whole)

    def _sizes(self, last: Sequence[Clusters]) -> Computation[dict[tuple[int, int], tuple[int, ...]]]:
        """Sizes of all clusters of all runs, in secret order."""
        public = yield from opened([clusters.reordered(clusters.last.members.sum(2)) for clusters in last])
        return {
            run: tuple(int(v) for v in PrimeField.lower(values))
            for clusters, of_all in zip(last, public, strict=True)
            for run, values in zip(clusters.names, of_all, strict=True)
        }

    def _inertia(
        self, last: Sequence[Clusters], sizes: dict[tuple[int, int], tuple[int, ...]], inner: Shared, pool: Pool
    ) -> Computation[dict[tuple[int, int], int]]:
        """Inertias of all runs whose clusters are large enough."""
        squares = scores.total(inner) * INERTIA_SCALE
        admitted = [run for run in sizes if self.search.admits(sizes[run])]
        found = yield from together([clusters.norms(inner, pool) for clusters in last])
        norms = {
            run: norm
            for clusters, of_all in zip(last, found, strict=True)
            for run, norm in zip(clusters.names, of_all, strict=True)
        }
        values = []
        for run in admitted:
            weights = Shared.public(np.array([reciprocal(size) for size in sizes[run]]))
            values.append(squares - (norms[run] * weights).sum(0))
        public = yield from opened(values)
        return {run: int(PrimeField.lower(value)) for run, value in zip(admitted, public, strict=True)}

    def _together(self, last: Sequence[Clusters], best: tuple[int, int]) -> Computation[tuple[np.ndarray, bool]]:
        """The winner's labels from the pairs of points that are together, and whether these are a partition's."""
        clusters = next(of for of in last if of.k == best[0])
        members = clusters.last.members[:, clusters.names.index(best)]  # [K, n]
        (pairs,) = yield from opened([members.transpose(1, 0) @ members])
        labels = np.unique(pairs.argmax(1), return_inverse=True)[1]
        return labels, np.array_equal(pairs, labels[:, None] == labels)
