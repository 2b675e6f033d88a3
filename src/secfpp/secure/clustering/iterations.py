"""All runs of a search as one holder computes them on shares, from points to where the runs end.

Every number of clusters and every restart run side by side, and assignments stay shared. The result is that of
`secfpp.secure.clustering.kmeans` on the same integers, assignment for assignment. The steps, and their exchanges by
default (3 I + 3 in all; 3 I if all runs go on, see `agreed` for others):

1. `Iterations._prepare`: inner products, and material for everything that follows; 1.
2. `Iterations._first`: the first iteration, with points compared by their distances to seed points; 2.
3. `Iterations._contest`: which runs go on, see `secfpp.secure.clustering.search`; 3.
4. `Iterations._iterate`: each further iteration; 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from secfpp.crypto.arithmetic import Computation, Future, Pool, Shared, lowered, side_by_side, together
from secfpp.crypto.comparison import Comparator, DrawnMasks
from secfpp.crypto.minimum import Rotations
from secfpp.secure.clustering import scores
from secfpp.secure.clustering.clusters import Clusters
from secfpp.secure.clustering.found import Reveal
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


@dataclass(frozen=True)
class Iterations:
    """The computation for one search.

    Args:
        search: the public candidates.
        threshold: T, or more where masks carry more, see `secfpp.crypto.comparison.Comparator.carry`.
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
        return Comparator.soonest(self.search.first_bound, self.threshold, self.limit)

    @property
    def scaling(self) -> bool:
        """Whether choices of the first iteration need products ahead, see `DrawnRotations.prepare`."""
        return True

    @property
    def ordered(self) -> bool:
        """Whether clusters need a secret order, as their sizes are opened."""
        return True

    @property
    def contest(self) -> Comparator:
        """How the costs of runs are compared."""
        return Comparator.soonest(self.search.cost_bound, self.threshold, self.limit)

    @property
    def later(self) -> Comparator:
        """How scores are compared in all iterations but the first."""
        return Comparator.plan(self.search.bound, self.threshold, self.limit, self.levels, self.bits)

    @property
    def _runs(self) -> list[Runs]:
        """The runs of each K for which there is something to compare."""
        hidden = self.reveal == "partition"
        return [Runs(self.search, k, hidden, hidden and self.ordered) for k in self.search.seeds if k > 1]

    def ended(
        self, points: Shared, pool: Pool, hiding: Callable[[], Mapping[int, Rotations]] = dict
    ) -> Computation[tuple[Shared, list[Clusters]]]:
        """From points to where all runs end.

        Args:
            points: [n, d], degree 1.
            pool: the randomness.
            hiding: gives, when there is a contest, for each K what hides who wins it; without, everybody knows.

        Returns:
            The inner products, and the runs of each K.
        """
        inner, material, runs = yield from self._first((yield from self._prepare(points, pool)), pool)
        runs = yield from self._contest(inner, runs, material, hiding(), pool)
        for number in range(self.search.iterations - 1):
            runs = yield from self._iterate(number, inner, runs, material, pool)
        last = [Clusters(1, Assigned.everybody(self.search.n), None)] if 1 in self.search.seeds else []
        return inner, last + [
            Clusters(of.k, assigned, expanded_.order)
            for of, assigned, expanded_ in zip(self._runs, runs, material, strict=True)
        ]

    def _prepare(self, points: Shared, pool: Pool) -> Computation[Prepared]:
        upper = np.triu_indices(self.search.n, 0 if self.search.self_products else 1)
        gram = (points @ points.transpose(1, 0)).values[upper]
        (reduced,), nearer, runs = yield from side_by_side(
            lowered([Shared(gram, 2)], pool),
            self.nearer.prepare(scores.SeedPairs(self.search).count, pool),
            together([runs.draw(self.contest, self.later, self.scaling, pool) for runs in self._runs]),
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
        self,
        inner: Shared,
        runs: Sequence[Assigned],
        material: Sequence[Expanded],
        hiding: Mapping[int, Rotations],
        pool: Pool,
    ) -> Computation[list[Assigned]]:
        every = zip(self._runs, runs, material, strict=True)
        return (
            yield from together(
                [of.contest(inner, before, mine.contest, hiding.get(of.k), pool) for of, before, mine in every]
            )
        )

    def _iterate(
        self, number: int, inner: Shared, runs: Sequence[Assigned], material: Sequence[Expanded], pool: Pool
    ) -> Computation[list[Assigned]]:
        every = zip(self._runs, runs, material, strict=True)
        return (
            yield from together([of.iterate(inner, before, mine.later[number], pool) for of, before, mine in every])
        )
