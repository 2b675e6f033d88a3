"""All runs of a search with one number of clusters: their material, and what they do from step to step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np

from secfpp.crypto.arithmetic import (
    Computation,
    Pool,
    Shared,
    fitting,
    lowered,
    opened,
    product,
    side_by_side,
    together,
)
from secfpp.crypto.comparison import Comparator, DrawnMasks, Masks
from secfpp.crypto.minimum import DrawnRotations, Rotations, defeats
from secfpp.secure.clustering import scores
from secfpp.secure.clustering.search import Search

R = TypeVar("R")


class Drawn(NamedTuple):
    """Material as it is drawn.

    Attributes:
        contest: for comparing costs, if there is a contest.
        later: for comparing scores, for each iteration but the first.
        turns: for choosing the best, for each iteration.
        order: permutation matrices [finalists, K, K], each run's secret order of its clusters; None if they need
            none.
    """

    contest: DrawnMasks | None
    later: Sequence[DrawnMasks]
    turns: Sequence[DrawnRotations]
    order: Shared | None


class Iteration(NamedTuple):
    """Expanded material for one iteration but the first."""

    masks: Masks
    rotations: Rotations


class Expanded(NamedTuple):
    """Material as it is used: `first` to choose the best in the first iteration; for the rest see `Drawn`."""

    contest: Masks | None
    first: Rotations
    later: Sequence[Iteration]
    order: Shared | None


@dataclass(frozen=True)
class Assigned:
    """Where the runs are after an iteration.

    Attributes:
        numbers: of the runs, int64 [runs]; of their groups, if nobody knows which runs of those these are.
        start: whose seed point is which cluster's, bits [K, runs, n].
        members: who is in which cluster, bits [K, runs, n].
        undecided: assignments that no comparison decided, in all iterations so far.
        history: if nothing is hidden, each run's assignments of all iterations so far, also of runs that ended.
    """

    numbers: np.ndarray
    start: Shared
    members: Shared
    undecided: int = 0
    history: Mapping[int, list[np.ndarray]] = field(default_factory=dict)

    @classmethod
    def everybody(cls, n: int) -> Assigned:
        """The one run with one cluster."""
        everyone = np.ones((1, 1, n), np.int64)
        return cls(np.zeros(1, np.int64), Shared.public(everyone * (np.arange(n) == 0)), Shared.public(everyone))


@dataclass(frozen=True)
class Runs:
    """The runs with `k` clusters of a search; `hidden` if assignments stay shared, `ordered` if clusters get orders."""

    search: Search
    k: int
    hidden: bool
    ordered: bool

    @property
    def groups(self) -> np.ndarray:
        """See `Search.groups`."""
        return self.search.groups(self.k)

    @property
    def seeds(self) -> np.ndarray:
        """Seed points of each run, int64 [runs, K]."""
        return self.search.seeds[self.k]

    def draw(self, contest: Comparator, later: Comparator, scaling: bool, pool: Pool) -> Computation[Drawn]:
        """Draw all material; one exchange, or as many more as it takes to multiply permutations.

        `scaling` is about the first iteration, see `DrawnRotations.prepare`.
        """
        n, iterations = self.search.n, self.search.iterations
        finalists, size = self.groups.shape
        pairs = self.k * (self.k - 1) // 2
        turned = [len(self.seeds), *[finalists] * (iterations - 1)]
        parts = yield from side_by_side(
            _if_any(contest.prepare(finalists * size * (size - 1) // 2, pool) if size > 1 else None),
            together([later.prepare(finalists * n * pairs, pool) for _ in range(iterations - 1)]),
            together(
                [
                    DrawnRotations.prepare(self.k, count * n, pool, hidden=self.hidden, scaling=scaling or number > 0)
                    for number, count in enumerate(turned)
                ]
            ),
            self._order(pool),
        )
        return Drawn(*parts)

    def _order(self, pool: Pool) -> Computation[Shared | None]:
        if not self.ordered:
            return None
        matrices = yield from product(pool.permutations(self.k, len(self.groups)), pool, matrices=True)
        (reduced,) = yield from lowered([matrices], pool)
        return reduced

    def first(self, beats: Shared, rotations: Rotations, pool: Pool) -> Computation[Assigned]:
        """The first iteration's choice, from comparisons of distances to the seed points; one exchange."""
        runs, n = len(self.seeds), self.search.n
        nobody = Shared.public(np.zeros((self.k, runs, n), np.int64))
        start = Shared.public((self.seeds.T[..., None] == np.arange(n)).astype(np.int64))
        return (yield from self._chosen(beats, Assigned(np.arange(runs), start, nobody), rotations, pool))

    def contest(
        self, inner: Shared, assigned: Assigned, masks: Masks | None, hiding: Rotations | None, pool: Pool
    ) -> Computation[Assigned]:
        """Of each group let the run go on whose seeds cost least; with `hiding` nobody learns which one that is."""
        if masks is None:
            return assigned
        costs = scores.seed_costs(inner, assigned.members, self.seeds)
        rows, size = self.groups.shape
        s, t = np.triu_indices(size, 1)
        differences = costs[self.groups[:, t].T] - costs[self.groups[:, s].T]  # [pairs, rows]
        compared = masks.negative(differences.reshape(-1), pool)
        if hiding is not None:
            return (yield from self._blended(assigned, compared, hiding, pool))
        beats = yield from compared
        loss = yield from fitting(defeats(beats.reshape(-1, rows), size), 1, pool)
        (public,) = yield from opened([pool.uniform((size, rows)) * loss])  # zero for who has no defeat
        numbers = self.groups[np.arange(rows), (public == 0).argmax(0)]
        return replace(
            assigned, numbers=numbers, start=assigned.start[:, numbers], members=assigned.members[:, numbers]
        )

    def _blended(
        self, assigned: Assigned, compared: Computation[Shared], hiding: Rotations, pool: Pool
    ) -> Computation[Assigned]:
        """The runs of each group without a defeat; products with where they are, are prepared beside comparisons."""
        rows, size = self.groups.shape
        every = assigned.members[:, self.groups.T].transpose(1, 2, 0, 3)  # [size, rows, K, n]
        beats, products = yield from side_by_side(compared, hiding.blending(every, pool))
        place, _ = yield from hiding.place(defeats(beats.reshape(-1, rows), size), pool)
        members = hiding.blended(products, place).transpose(1, 0, 2)
        index = place ^ np.arange(size)[:, None]
        chosen = Shared(np.take_along_axis(hiding.one_hot.values, index, 0), 1)  # [size, rows]
        start = (chosen[:, :, None] * assigned.start[:, self.groups.T]).sum(1)
        return Assigned(np.arange(rows), start, members)

    def iterate(self, inner: Shared, assigned: Assigned, material: Iteration, pool: Pool) -> Computation[Assigned]:
        """An iteration but the first."""
        weights = assigned.members * self.search.pull + assigned.start
        differences = yield from scores.differences(inner, weights, pool)
        beats = yield from material.masks.negative(differences.reshape(-1), pool)
        return (yield from self._chosen(beats, assigned, material.rotations, pool))

    def _chosen(self, beats: Shared, before: Assigned, rotations: Rotations, pool: Pool) -> Computation[Assigned]:
        """Every point in the cluster that beats all others; where it was `before` if none does."""
        shape = before.members.shape
        loss = defeats(beats.reshape(-1, *shape[1:]), self.k).reshape(self.k, -1)
        chosen, decided = yield from rotations.minimum(loss, pool)
        kept = np.where(decided.reshape(shape[1:]), chosen.values.reshape(shape), before.members.values)
        history = dict(before.history)
        if not self.hidden:
            for number, labels in zip(before.numbers.tolist(), kept.argmax(0), strict=True):
                history[number] = [*history.get(number, []), labels]
        members = Shared(kept, max(chosen.degree, before.members.degree))
        return Assigned(before.numbers, before.start, members, before.undecided + int((~decided).sum()), history)


def expanded(drawn: Drawn, pool: Pool) -> Computation[Expanded]:
    """Expand all material, in exchanges of which the first may be that of the first comparisons.

    It does not hold on to what was drawn, which is large.
    """
    return _expanded(
        _if_any(None if drawn.contest is None else drawn.contest.expand(pool)),
        together([masks.expand(pool) for masks in drawn.later]),
        together([rotations.expand(pool) for rotations in drawn.turns]),
        drawn.order,
    )


def _expanded(
    contesting: Computation[Masks | None],
    comparing: Computation[list[Masks]],
    turning: Computation[list[Rotations]],
    order: Shared | None,
) -> Computation[Expanded]:
    contest, later, (first, *turns) = yield from side_by_side(contesting, comparing, turning)
    return Expanded(contest, first, [Iteration(*pair) for pair in zip(later, turns, strict=True)], order)


def _if_any(computation: Computation[R] | None) -> Computation[R | None]:
    return None if computation is None else (yield from computation)
