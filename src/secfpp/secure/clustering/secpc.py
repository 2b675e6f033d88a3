"""SecPC: adaptive k-means on shared points, as one holder computes it.

The result is that of `secfpp.secure.clustering.kmeans` on the same integers, assignment for assignment: every candidate
number of clusters and every restart run side by side, assignments stay shared, and only this is opened besides uniform
masks:

* of every group of runs which one goes on after the first iteration (see `secfpp.secure.clustering.search`),
* for every run that does the sizes of its clusters, in secret order,
* for every such run whose clusters are all large enough its inertia,
* for the winner which pairs of points are together.

Exchanges by default: one to prepare, two for the first iteration, three to choose who goes on, three for each further
iteration, three for the outcome (3 I + 6; 3 I + 3 if all runs go on).

Sources: Hou, Li, Buyukates (arXiv 2505.22447) for clustering prompts on shares; what is opened, and all of the
circuit, is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.crypto.arithmetic import (
    Computation,
    Pool,
    Shared,
    both,
    fitting,
    lowered,
    opened,
    product,
    together,
)
from secfpp.crypto.comparison import Comparator, Masks, Rotations, defeats
from secfpp.crypto.field import PrimeField
from secfpp.secure.clustering.found import Found, Reveal
from secfpp.secure.clustering.kmeans import INERTIA_SCALE, reciprocal
from secfpp.secure.clustering.search import Search


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

    def run(self, points: Shared, pool: Pool) -> Computation[Found]:
        """Cluster `points` [n, d], degree 1."""
        inner, first, runs = yield from self._prepare(points, pool)
        nearer = _Nearer(self.search)
        expanding = together([first.expand(pool), *(run.expand(pool) for run in runs)])
        _, beats = yield from both(expanding, first.negative(nearer.differences(inner), pool))
        results = yield from together([run.members(inner, nearer.of(beats, run.k), pool) for run in runs])
        members = dict(zip((run.k for run in runs), results, strict=True))
        sizes = yield from self._sizes(runs, members)
        inertia = yield from self._inertia(runs, members, sizes, inner, pool)
        undecided = sum(run.undecided for run in runs)
        assignments = {(run.k, r): labels for run in runs for r, labels in run.opened.items()}
        best = self.search.best({run: (sizes[run], inertia[run]) for run in inertia})
        if best is None:
            return Found(None, 1, sizes, inertia, undecided, assignments)
        k, number = best
        going_on = next(run.going_on for run in runs if run.k == k)
        x = members[k][:, going_on.tolist().index(number)]  # [K, n]
        (pairs,) = yield from opened([x.transpose(1, 0) @ x])
        labels = np.unique(pairs.argmax(1), return_inverse=True)[1]
        whole = np.array_equal(pairs, labels[:, None] == labels)
        return Found(labels, k, sizes, inertia, undecided, assignments, whole)

    def _prepare(self, points: Shared, pool: Pool) -> Computation[tuple[Shared, Masks, list[_Runs]]]:
        """Inner products of all points [n, n] with degree 1, and material for everything that follows."""
        upper = np.triu_indices(self.search.n)
        gram = (points @ points.transpose(1, 0)).values[upper]
        hidden = self.reveal == "partition"
        runs = [_Runs(self.search, k, hidden) for k in self.search.seeds]
        (reduced,), (masks, _) = yield from both(
            lowered([Shared(gram, 2)], pool),
            both(
                self.nearer.prepare(self.search.n * len(_Nearer(self.search).pairs), pool),
                together([run.prepare(self.later, self.contest, pool) for run in runs]),
            ),
        )
        inner = np.zeros((self.search.n, self.search.n), np.uint64)
        inner[upper] = reduced.values
        inner.T[upper] = reduced.values
        return Shared(inner, 1), masks, runs

    def _sizes(
        self, runs: list[_Runs], members: dict[int, Shared]
    ) -> Computation[dict[tuple[int, int], tuple[int, ...]]]:
        """Sizes of all clusters of all runs, [K, number]; in secret order, which `_Runs.order` goes on using."""
        shown = [run.reordered(members[run.k].sum(2)) for run in runs]
        public = yield from opened(shown)
        return {
            (run.k, r): tuple(int(v) for v in PrimeField.lower(values[i]))
            for run, values in zip(runs, public, strict=True)
            for i, r in enumerate(run.going_on.tolist())
        }

    def _inertia(
        self,
        runs: list[_Runs],
        members: dict[int, Shared],
        sizes: dict[tuple[int, int], tuple[int, ...]],
        inner: Shared,
        pool: Pool,
    ) -> Computation[dict[tuple[int, int], int]]:
        squares = inner[np.arange(self.search.n), np.arange(self.search.n)].sum(0) * INERTIA_SCALE
        admitted = [run for run in sizes if self.search.admits(sizes[run])]
        found = yield from together([run.norms(members[run.k], inner, pool) for run in runs])
        norms = {
            (run.k, r): norm
            for run, of_all in zip(runs, found, strict=True)
            for r, norm in zip(run.going_on.tolist(), of_all, strict=True)
        }
        values = []
        for run in admitted:
            weights = Shared.public(np.array([reciprocal(size) for size in sizes[run]]))
            values.append(squares - (norms[run] * weights).sum(0))
        public = yield from opened(values)
        return {run: int(PrimeField.lower(value)) for run, value in zip(admitted, public, strict=True)}


class _Nearer:
    """Which of two seed points is nearer to each point, for all pairs of seed points that one run has."""

    def __init__(self, search: Search) -> None:
        self.search = search
        used = [
            np.stack([seeds[:, first].ravel(), seeds[:, second].ravel()], 1)
            for k, seeds in search.seeds.items()
            for first, second in [np.triu_indices(k, 1)]
        ]
        every = np.concatenate(used) if used else np.zeros((0, 2), np.int64)
        self.pairs = np.unique(every, axis=0).reshape(-1, 2)  # [pairs, 2], first below second

    def differences(self, inner: Shared) -> Shared:
        """Squared distance to the second minus that to the first, [pairs n]."""
        a, b = self.pairs[:, 0], self.pairs[:, 1]
        squares = inner[np.arange(self.search.n), np.arange(self.search.n)]
        value = (squares[b] - squares[a])[:, None] - (inner[b] - inner[a]) * 2
        return value.reshape(-1)

    def of(self, beats: Shared, k: int) -> Shared:
        """The bits [K (K - 1) / 2, runs, n] that the runs of K clusters need, from all of them [pairs n]."""
        number = {tuple(pair): i for i, pair in enumerate(self.pairs.tolist())}
        seeds = self.search.seeds[k].tolist()
        index = [[number[row[s], row[t]] for row in seeds] for s, t in zip(*np.triu_indices(k, 1), strict=True)]
        table = beats.reshape(-1, self.search.n)
        return table[np.array(index, np.int64).reshape(-1, len(seeds))]


class _Runs:
    """All runs with one number of clusters."""

    def __init__(self, search: Search, k: int, hidden: bool) -> None:
        self.search, self.k, self.hidden = search, k, hidden
        self.groups = search.groups(k)
        self.going_on = self.groups[:, 0]
        self.masks: list[Masks] = []
        self.rotations: list[Rotations] = []
        self.order: Shared | None = None
        self.undecided = 0
        self.opened: dict[int, list[np.ndarray]] = {}

    def prepare(self, later: Comparator, contest: Comparator, pool: Pool) -> Computation[None]:
        if self.k == 1:
            return
        n, iterations = self.search.n, self.search.iterations
        finalists, size = self.groups.shape
        pairs = self.k * (self.k - 1) // 2
        parts = [contest.prepare(finalists * size * (size - 1) // 2, pool)] if size > 1 else []
        parts += [later.prepare(finalists * n * pairs, pool) for _ in range(iterations - 1)]
        turned = [len(self.search.seeds[self.k]), *[finalists] * (iterations - 1)]
        turns = [Rotations.prepare(self.k, count * n, pool, hidden=self.hidden) for count in turned]
        (self.masks, self.rotations), self.order = yield from both(
            both(together(parts), together(turns)), self._order(pool)
        )

    def expand(self, pool: Pool) -> Computation[None]:
        """Prepare digits and rotations, while the first iteration's scores are opened."""
        parts: list[Masks | Rotations] = [*self.masks, *self.rotations]
        yield from together([part.expand(pool) for part in parts])

    def _order(self, pool: Pool) -> Computation[Shared | None]:
        """A secret order of each run's clusters, permutation matrices [finalists, K, K]; None if nothing is hidden."""
        if not self.hidden:
            return None
        matrices = yield from product(pool.permutations(self.k, len(self.groups)), pool, matrices=True)
        (reduced,) = yield from lowered([matrices], pool)
        return reduced

    def members(self, inner: Shared, beats: Shared, pool: Pool) -> Computation[Shared]:
        """Members [K, finalists, n] after all iterations; `beats` are the comparisons of the first, to the seeds."""
        n, k, seeds = self.search.n, self.k, self.search.seeds[self.k]
        if k == 1:
            return Shared.public(np.ones((1, 1, n), np.int64))
        nobody = Shared.public(np.zeros((k, len(seeds), n), np.int64))
        members = yield from self._assigned(beats, nobody, range(len(seeds)), pool)
        if self.groups.shape[1] > 1:
            yield from self._contest(inner, members, pool)
        members = members[:, self.going_on]
        start = np.zeros((k, len(self.going_on), n), np.int64)
        start[np.arange(k), np.arange(len(self.going_on))[:, None], seeds[self.going_on]] = 1
        for _ in range(self.search.iterations - 1):
            weights = members * self.search.pull + Shared.public(start)
            differences = yield from self._differences(inner, weights, pool)
            beats = yield from self.masks.pop(0).negative(differences.reshape(-1), pool)
            members = yield from self._assigned(beats, members, self.going_on.tolist(), pool)
        return members

    def _assigned(self, beats: Shared, before: Shared, numbers: Sequence[int], pool: Pool) -> Computation[Shared]:
        """Members [K, runs, n] after an iteration of the runs with these numbers; as `before` where nothing won."""
        loss = defeats(beats.reshape(-1, len(numbers), self.search.n), self.k).reshape(self.k, -1)
        chosen, decided = yield from self.rotations.pop(0).minimum(loss, pool)
        shape = before.shape
        kept = np.where(decided.reshape(shape[1:]), chosen.values.reshape(shape), before.values)
        self.undecided += int((~decided).sum())
        if not self.hidden:
            for number, labels in zip(numbers, kept.argmax(0), strict=True):
                self.opened.setdefault(number, []).append(labels)
        return Shared(kept, max(chosen.degree, before.degree))

    def _contest(self, inner: Shared, members: Shared, pool: Pool) -> Computation[None]:
        """Of each group let the run go on whose seeds cost least; which one it is becomes public, nothing else."""
        every = np.arange(self.search.n)
        distances = inner[every, every][:, None] - inner * 2  # of a seed to a point, less what all seeds share
        costs = (members * distances[self.search.seeds[self.k].T]).sum(2).sum(0)
        rows, size = self.groups.shape
        s, t = np.triu_indices(size, 1)
        differences = costs[self.groups[:, t].T] - costs[self.groups[:, s].T]  # [pairs, rows]
        beats = yield from self.masks.pop(0).negative(differences.reshape(-1), pool)
        loss = yield from fitting(defeats(beats.reshape(-1, rows), size), 1, pool)
        (public,) = yield from opened([pool.uniform((size, rows)) * loss])  # zero for who has no defeat
        self.going_on = self.groups[np.arange(rows), (public == 0).argmax(0)]

    def _inward(self, inner: Shared, weights: Shared) -> Shared:
        """Sums of inner products of each point with the members of each cluster, [K, runs, n]."""
        return (weights.reshape(-1, self.search.n) @ inner).reshape(*weights.shape)

    def _differences(self, inner: Shared, weights: Shared, pool: Pool) -> Computation[Shared]:
        """n_s^2 h_it - n_t^2 h_is for s < t, [pairs, runs, n]; see `secfpp.secure.clustering.kmeans`."""
        total = weights.sum(2)  # n_s, [K, runs]
        inward = yield from fitting(self._inward(inner, weights), 1, pool)  # q_is
        norm = (weights * inward).sum(2)  # Q_s
        scores = norm[..., None] - total[..., None] * inward * 2  # h_is
        squares = total * total
        scores = yield from fitting(scores, squares.degree, pool)
        s, t = np.triu_indices(self.k, 1)
        return squares[s][..., None] * scores[t] - squares[t][..., None] * scores[s]

    def reordered(self, values: Shared) -> Shared:
        """Values of the clusters [K, runs] in each run's secret order, [runs, K]."""
        values = values.transpose(1, 0)
        if self.order is None:
            return values
        return (self.order * values[:, None, :]).sum(2)

    def norms(self, members: Shared, inner: Shared, pool: Pool) -> Computation[Shared]:
        """Squared lengths of the clusters' sums, in secret order [runs, K]."""
        inward = yield from fitting(self._inward(inner, members), members.degree, pool)
        values = (members * inward).sum(2)
        if self.order is not None:
            values = yield from fitting(values, 1, pool)
        return self.reordered(values)
