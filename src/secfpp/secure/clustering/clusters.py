"""Where the runs of a search end on shares, and what every choice among them opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from secfpp.crypto.arithmetic import Computation, Pool, Shared, fitting, opened, together
from secfpp.crypto.field import PrimeField
from secfpp.secure.clustering import scores
from secfpp.secure.clustering.runs import Assigned

Run = tuple[int, int]
"""K, and the number of a run with K clusters."""


class Clusters(NamedTuple):
    """The runs of one K at the end: where they are, and their secret orders of clusters, see `Drawn`."""

    k: int
    last: Assigned
    order: Shared | None

    @property
    def names(self) -> list[Run]:
        """The runs."""
        return [(self.k, number) for number in self.last.numbers.tolist()]

    def reordered(self, values: Shared) -> Shared:
        """Values of the clusters [K, runs] in each run's secret order, [runs, K]."""
        values = values.transpose(1, 0)
        return values if self.order is None else (self.order * values[:, None, :]).sum(2)

    def norms(self, inner: Shared, pool: Pool) -> Computation[Shared]:
        """Sums of the products of all members of a cluster, in secret order [runs, K]."""
        values = yield from scores.norms(inner, self.last.members, pool)
        if self.order is not None:
            values = yield from fitting(values, 1, pool)
        return self.reordered(values)


def sizes(last: Sequence[Clusters]) -> Computation[dict[Run, tuple[int, ...]]]:
    """Public sizes of all clusters of all runs, in secret order; one exchange."""
    public = yield from opened([clusters.reordered(clusters.last.members.sum(2)) for clusters in last])
    return {
        run: tuple(int(v) for v in PrimeField.lower(values))
        for clusters, of_all in zip(last, public, strict=True)
        for run, values in zip(clusters.names, of_all, strict=True)
    }


def norms(last: Sequence[Clusters], inner: Shared, pool: Pool) -> Computation[Mapping[Run, Shared]]:
    """For every run the sums of the products of all members of its clusters [K], in the order of `sizes`."""
    found = yield from together([clusters.norms(inner, pool) for clusters in last])
    return {
        run: norm
        for clusters, of_all in zip(last, found, strict=True)
        for run, norm in zip(clusters.names, of_all, strict=True)
    }
