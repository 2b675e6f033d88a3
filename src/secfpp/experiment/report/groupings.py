"""What a report shows of clusters: how many, how well they match the true groups, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from secfpp.experiment.report import plots
from secfpp.experiment.results.explained import decision
from secfpp.experiment.results.statistics import adjusted_rand_index, can_be_judged, contingency, purity

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult


@dataclass(frozen=True)
class Agreement:
    """How the clusters of one run match the true groups, over the clients that are in one.

    Attributes:
        seed: of the run.
        sizes: clients per cluster.
        alone: clients in no cluster.
        ari: adjusted Rand index; None where it says nothing (one cluster, all of one true group, or no two).
        purity: share of clients whose cluster has mostly clients of their true group; None like `ari`.
        decision: how many groups are used, and why.
    """

    seed: int
    sizes: tuple[int, ...]
    alone: int
    ari: float | None
    purity: float | None
    decision: str


@dataclass(frozen=True)
class Grouping:
    """The clusters of one method.

    Attributes:
        method: its label.
        runs: one agreement per seed.
        picture: its first run's clients by their descriptors; None without descriptors.
        truth: what a true group is called: a domain, if they are the same.
        groups: legend of the picture: a marker and the true group.
        shapes: legend of the picture: a marker, the number of the cluster, and the clients in it.
        clusters: numbers of the clusters of the first run.
        table: the first run's clients of each true group in each of `clusters`.
    """

    method: str
    runs: tuple[Agreement, ...]
    picture: Markup | None
    truth: str
    groups: tuple[tuple[Markup, str], ...]
    shapes: tuple[tuple[Markup, int, int], ...]
    clusters: tuple[int, ...]
    table: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def counts(self) -> str:
        """How many clusters there are: one number, or the least and the most of any seed."""
        found = [len(run.sizes) for run in self.runs]
        return str(found[0]) if min(found) == max(found) else f"{min(found)} to {max(found)}"

    @property
    def one_used(self) -> bool:
        """Whether there is one cluster only on some seed, which asks for a reason."""
        return any(len(run.sizes) == 1 for run in self.runs)

    @property
    def ari(self) -> float | None:
        """Mean over the seeds where it is known."""
        return _mean([run.ari for run in self.runs])

    @property
    def lowest_ari(self) -> float | None:
        """That of the worst seed."""
        return min((run.ari for run in self.runs if run.ari is not None), default=None)

    @property
    def purity(self) -> float | None:
        """Mean over the seeds where it is known."""
        return _mean([run.purity for run in self.runs])


def groupings(results: Sequence[RunResult]) -> list[Grouping]:
    """The clusters of every method that has some."""
    grouped = [(r, r.assignment) for r in results if r.assignment is not None]
    return [
        _grouping([(r, found) for r, found in grouped if r.method == method])
        for method in dict.fromkeys(r.method for r, _ in grouped)
    ]


def agreement(result: RunResult, found: Sequence[int]) -> Agreement:
    """How the clusters `found` match the true groups of `result`."""
    pairs = [(g, c) for g, c in zip(result.true_groups, found, strict=True) if c >= 0]
    groups, clusters = [g for g, _ in pairs], [c for _, c in pairs]
    judged = can_be_judged(groups, clusters)
    return Agreement(
        result.seed,
        tuple(clusters.count(c) for c in sorted(set(clusters))),
        len(found) - len(pairs),
        adjusted_rand_index(groups, clusters) if judged else None,
        purity(groups, clusters) if judged else None,
        decision(result),
    )


def _grouping(runs: Sequence[tuple[RunResult, tuple[int, ...]]]) -> Grouping:
    first, found = runs[0]
    clusters, groups = sorted(set(found)), list(dict.fromkeys(first.true_groups))
    counts = contingency(first.true_groups, found)
    order = [list(dict.fromkeys(found)).index(cluster) for cluster in clusters]
    picture = None
    if first.descriptors is not None:
        picture = plots.scatter(plots.principal_plane(first.descriptors), first.true_groups, found, first.clients)
    return Grouping(
        first.method,
        tuple(agreement(result, assigned) for result, assigned in runs),
        picture,
        "true group" if first.groups else "domain",
        tuple((plots.marker(i), group) for i, group in enumerate(groups)),
        tuple((plots.marker(None, c), c, found.count(c)) for c in clusters if c >= 0),
        tuple(clusters),
        tuple((group, tuple(int(counts[i, j]) for j in order)) for i, group in enumerate(groups)),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
