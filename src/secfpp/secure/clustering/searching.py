"""Ways to group clients that search over many runs of Lloyd's iteration: what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.errors import ConfigError, Problem, ProtocolError
from secfpp.protocol.program import ClientState
from secfpp.secure.clustering.clusterer import Clusterer, require_at_least_one
from secfpp.settings import check_types


@dataclass(frozen=True)
class Searching(Clusterer):
    """A search for groups, in the clear and on shares.

    Lloyd's iteration on integers, see `secfpp.secure.clustering.kmeans`, runs from `restarts` random choices of seed
    points for each K, public ones that depend on the cohort's seed and round only. After the first iteration
    `finalists` of them go on, see `Search.winners`. Only runs count whose clusters all have `min_cluster_size` members;
    if there is none, there is one cluster.

    Of more than `sample` clients, only so many are searched, see `secfpp.secure.clustering.sampling`. Every other one
    comes into the group whose sampled members it is nearest to, as newcomers do.

    Args:
        k: fixes K; None chooses among 1..k_max.
        k_max: largest K tried.
        restarts: runs per K that begin.
        finalists: how many of them go on after the first iteration; all of fewer.
        iterations: of Lloyd, in each of those.
        min_cluster_size: fewest members of a cluster, of those that are searched, and fewest who are there of one that
            newcomers can join.
        sample: most clients that are searched; 0 searches all.
    """

    by_agreement: ClassVar[bool]
    """Whether points have no products with themselves, see `secfpp.secure.clustering.agreement`."""
    counts: ClassVar[tuple[str, ...]] = ("k", "k_max", "restarts", "finalists", "iterations", "min_cluster_size")

    k: int | None = None
    k_max: int = 8
    restarts: int = 192
    finalists: int = 8
    iterations: int = 2
    min_cluster_size: int = 4
    sample: int = 128

    def __post_init__(self) -> None:
        check_types(self, "clusterer")
        require_at_least_one(self, *self.counts)
        least = max(self.k or 2, 2) * self.min_cluster_size
        if self.sample and self.sample < least:
            allowed = f"0, for all, or at least {least}: {self.k or 2} clusters of {self.min_cluster_size}"
            raise ConfigError([Problem("clusterer.sample", self.sample, allowed)])

    def searched(self, clients: int) -> int:
        """How many of so many clients are searched."""
        return min(clients, self.sample or clients)

    def require(self, clients: int) -> None:
        """See `Clusterer.require`."""
        self.require_some(clients)
        if self.k is not None and self.k * self.min_cluster_size > clients:
            allowed = f"at most {clients // self.min_cluster_size}: {clients} clients in clusters of "
            raise ConfigError([Problem("clusterer.k", self.k, f"{allowed}{self.min_cluster_size} or more")])

    def require_some(self, clients: int) -> None:
        """Refuse fewer than one cluster's; whoever drops out, others are one cluster.

        Raises:
            ConfigError: a cohort smaller than one cluster.
        """
        smallest = self.min_cluster_size
        if clients < smallest:
            allowed = f"at most the {clients} clients of a round"
            raise ConfigError([Problem("clusterer.min_cluster_size", smallest, allowed)])


def descriptor_in(state: ClientState, slot: str) -> np.ndarray:
    """The client's own descriptor, a vector.

    Raises:
        ProtocolError: there is none of this name.
    """
    if slot not in state or state[slot].ndim != 1:
        raise ProtocolError(f"this client has no vector {slot!r} to be clustered by")
    return state[slot]
