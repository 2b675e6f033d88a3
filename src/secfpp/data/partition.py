"""Who holds which image: partitions of labelled images over clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.seeding import Seed, derive


def dirichlet_shares(n_classes: int, n_clients: int, alpha: float, seed: Seed) -> np.ndarray:
    """Each class's shares over clients, float [n_classes, n_clients]; rows sum to 1.

    Small `alpha` gives each client few classes, large `alpha` all classes evenly.

    Raises:
        ConfigError: `alpha` is not positive or there is no client.
    """
    if not alpha > 0:
        raise ConfigError([Problem("data.alpha", alpha, "the Dirichlet concentration must be positive")])
    if n_clients < 1:
        raise ConfigError([Problem("data.clients_per_domain", n_clients, "at least one client is needed")])
    logs = derive(seed, "shares").numpy().gamma(alpha, size=(n_classes, n_clients))
    totals = logs.sum(1, keepdims=True)
    shares: np.ndarray = np.where(totals > 0, logs / np.where(totals > 0, totals, 1), 1 / n_clients)
    return shares


def split_by_shares(
    labels: np.ndarray, shares: np.ndarray, seed: Seed, *, minimum: int = 1, names: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Indices of each client's images, sorted; every image goes to exactly one client.

    Images of a class are dealt in the given shares (largest remainder). A client below `minimum`
    then receives images from those who have most, so that this always ends.

    Args:
        labels: int [n].
        shares: float [n_classes, n_clients], as `dirichlet_shares` makes them.
        seed: decides which image goes where.
        minimum: images that every client must have.
        names: the clients' names, for the error.

    Raises:
        DataError: there are fewer than `minimum` images per client; names the first client left short.
    """
    n_clients = shares.shape[1]
    held: list[list[int]] = [[] for _ in range(n_clients)]
    for label in np.unique(labels):
        images = derive(seed, "deal", int(label)).numpy().permutation(np.flatnonzero(labels == label))
        counts = largest_remainder(len(images), shares[label])
        for client, part in enumerate(np.split(images, np.cumsum(counts)[:-1])):
            held[client] += part.tolist()
    if len(labels) < minimum * n_clients:
        short = len(labels) // minimum if minimum else 0
        name = names[short] if names else f"number {short}"
        raise DataError(
            f"client {name} cannot be filled: {len(labels)} images for {n_clients} clients with at least {minimum} "
            "each; use fewer clients, more images per class, or a smaller minimum"
        )
    for client in range(n_clients):
        while len(held[client]) < minimum:
            richest = max(range(n_clients), key=lambda other: len(held[other]))
            held[client].append(held[richest].pop())
    return [np.array(sorted(images), dtype=np.int64) for images in held]


def largest_remainder(total: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to `total` and are nearest to ``total * shares``, int64 [n_clients]."""
    exact = total * np.asarray(shares, dtype=np.float64)
    counts = np.floor(exact).astype(np.int64)
    rest = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:rest]] += 1
    return counts
