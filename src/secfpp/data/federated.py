"""A federated data set: clients with private images, and shared test images per domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from secfpp.errors import DataError


@dataclass(frozen=True)
class Split:
    """Labelled images: `images` uint8 [n, height, width, 3], `labels` int64 [n]."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels: one label per image is needed")

    def __len__(self) -> int:
        return len(self.labels)

    def histogram(self, n_classes: int) -> np.ndarray:
        """Images per class, int64 [n_classes]."""
        return np.bincount(self.labels, minlength=n_classes)


@dataclass(frozen=True)
class ClientData:
    """One client's private data. `domain` is known to simulations only (oracle, metrics)."""

    name: str
    domain: str
    train: Split
    validation: Split


@dataclass(frozen=True)
class FederatedDataset:
    """Clients, the common list of class names, and test images of each domain.

    Label c of every split means ``classes[c]``. `template` is a hand-written prompt that suits the
    images, with ``{}`` for the class name, e.g. ``"a photo of a {}"``. `facts` is anything JSON-ready that a
    report should say about the data.
    """

    name: str
    classes: tuple[str, ...]
    clients: tuple[ClientData, ...]
    test: Mapping[str, Split]
    template: str = "a photo of a {}"
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def image_size(self) -> int:
        """Side in pixels of the images; the shorter one if they are not square."""
        height, width = self.clients[0].train.images.shape[1:3]
        return int(min(height, width))

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, in the order of `test`."""
        return tuple(self.test)
