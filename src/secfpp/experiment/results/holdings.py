"""Who holds how many images of which class: the class x client matrix of a data set, and what it amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from secfpp.data.federated import FederatedDataset

Table = Mapping[str, Any]
"""What `partition_table` gives, as JSON says it."""


def partition_table(dataset: FederatedDataset) -> dict[str, Any]:
    """Who holds how many training and validation images of each class."""
    n_classes = len(dataset.classes)
    clients = {
        client.name: {
            "domain": client.domain,
            "train": client.train.histogram(n_classes).tolist(),
            "validation": client.validation.histogram(n_classes).tolist(),
        }
        for client in dataset.clients
    }
    return {"classes": list(dataset.classes), "clients": clients}


def matrix(table: Table) -> np.ndarray:
    """Training images of each client and class, int64 [n_clients, n_classes]."""
    return np.array([own["train"] for own in table["clients"].values()], dtype=np.int64)


def partition_figures(table: Table) -> dict[str, int | float]:
    """What a table amounts to, in numbers.

    Returns:
        clients; training images, of all, and the fewest and most of a client; classes that a client holds, on average;
        clients that hold a class, on average; ``skew``, how far a client's mix of classes is from that of all clients
        of its domain: the total variation distance, 0 for the same and 1 for nothing in common, mean over clients.
    """
    held = matrix(table)
    domains = np.array([own["domain"] for own in table["clients"].values()])
    mixed = np.stack([held[domains == domain].sum(0) for domain in domains])
    apart = np.abs(_shares(held) - _shares(mixed)).sum(1) / 2
    sizes = held.sum(1)
    return {
        "clients": len(held),
        "training images": int(sizes.sum()),
        "fewest of a client": int(sizes.min()),
        "most of a client": int(sizes.max()),
        "classes of a client": round(float((held > 0).sum(1).mean()), 2),
        "clients of a class": round(float((held > 0).sum(0).mean()), 2),
        "skew": round(float(apart.mean()), 3),
    }


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = counts / counts.sum(1, keepdims=True).clip(1)
    return shares
