"""Each domain's images to its own clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from secfpp.data.partitions.base import Held, Partition, Pool
from secfpp.data.partitions.dirichlet import Dirichlet
from secfpp.errors import ConfigError, Problem


@dataclass(frozen=True)
class ByDomain(Partition):
    """The images of each domain are dealt to clients of their own, by another partition.

    Attributes:
        within: how they are dealt within a domain: ``dirichlet``, ``pathological``, ``shards`` or ``iid``.
    """

    kind: ClassVar[str] = "by_domain"
    mixes: ClassVar[bool] = False
    within: Partition = field(default_factory=Dirichlet)

    def __post_init__(self) -> None:
        if isinstance(self.within, ByDomain):
            allowed = "a domain has no domains: dirichlet, pathological, shards or iid"
            raise ConfigError([Problem("data.partition.within", self.within.kind, allowed)])

    def split(self, pool: Pool) -> Held:
        """Deal the images of one domain."""
        return self.within.split(pool)
