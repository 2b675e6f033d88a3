"""From labelled images of domains to the clients of a data set, by a partition.

Where domains stay apart, a client is measured on the test images of its own. Where a partition mixes them there is one
domain left, with the test images of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.data.federated import ClientData, Split
from secfpp.data.partitions.base import Partition, Pool
from secfpp.paging import paged
from secfpp.seeding import Seed, derive
from secfpp.shelf import Shelf, together

MIXED = "all"
"""The domain of clients whose images come from several."""
PARTS = ("train", "validation")
"""What clients hold."""
USUAL_MINIMUM = 8
"""Images of each part that a partition by drawn shares leaves to every client, where the shots allow it."""


@dataclass(frozen=True)
class Table:
    """What is dealt together.

    Attributes:
        domain: of the clients.
        sources: whose images.
        names: of the clients.
    """

    domain: str
    sources: tuple[str, ...]
    names: tuple[str, ...]


def tables(partition: Partition, sources: Sequence[str], clients_per_domain: int) -> list[Table]:
    """Each source for itself, with clients called after it; or all of them, where the partition mixes them."""
    if not partition.mixes or len(sources) == 1:
        return [Table(s, (s,), tuple(f"{s}-{i}" for i in range(clients_per_domain))) for s in sources]
    n = len(sources) * clients_per_domain
    return [Table(MIXED, tuple(sources), tuple(f"client-{i:0{len(str(n - 1))}}" for i in range(n)))]


def joined(splits: Sequence[Split]) -> Split:
    """Several splits as one."""
    if len(splits) == 1:
        return splits[0]
    return Split(together([s.images for s in splits]), np.concatenate([s.labels for s in splits]))


def deal(
    partition: Partition,
    sources: Mapping[str, Mapping[str, Split]],
    n_classes: int,
    *,
    clients_per_domain: int,
    alpha: float,
    shots: Mapping[str, int],
    seed: Seed,
) -> tuple[list[ClientData], dict[str, Split]]:
    """Clients, and the test images of their domains.

    Args:
        partition: who gets what.
        sources: source -> part -> images.
        n_classes: number of classes.
        clients_per_domain: clients for each source, however they are dealt to.
        alpha: Dirichlet concentration, where shares are drawn.
        shots: part -> images per class and source.
        seed: of the data set.

    Raises:
        ConfigError: settings of the partition that do not suit the number of classes or clients.
        DataError: a client that would have nothing; names the first one.
    """
    clients: list[ClientData] = []
    tests = {}
    total = sum(own[part].images.nbytes for own in sources.values() for part in PARTS)
    shelf = Shelf()
    for table in tables(partition, list(sources), clients_per_domain):
        parts = {part: joined([sources[s][part] for s in table.sources]) for part in (*PARTS, "test")}
        labels = {part: parts[part].labels for part in PARTS}
        minimum = {part: min(USUAL_MINIMUM, shots[part]) for part in PARTS}
        held = partition.split(
            Pool(labels, n_classes, table.names, derive(seed, "partition", table.domain), alpha, minimum)
        )
        for i, name in enumerate(paged(table.names)):
            train, validation = (
                Split(shelf.keep(parts[part].images[held[part][i]], total), parts[part].labels[held[part][i]])
                for part in PARTS
            )
            clients.append(ClientData(name, table.domain, train, validation))
        tests[table.domain] = parts["test"]
    return clients, tests
