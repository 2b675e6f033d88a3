"""What clients put into shared sums of image features, as one vector, and what they read from the mean of such vectors.

A vector holds the sums of features of each class, the images of each class and, in everybody's, the scatter within
classes (its upper triangle), its degrees of freedom and the exposure; all of it divided by a public scale, so that the
norm to which an average clips is the influence of one client with so many images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from secfpp.models.class_means import ClassSums, Scatter

EXPOSURE_PRIOR = 2.0
"""Images of a class with which a client's mean of it counts half, see `secfpp.algorithms.residuals`."""


@dataclass(frozen=True, eq=False)
class SharedSums:
    """Sums over clients.

    Attributes:
        classes: of each class.
        members: how many clients they are of.
        scatter: within classes and clients; everybody's sums only.
        exposure: how many classes a client has on average, each counted as ``n / (n + 2)`` with its n images;
            everybody's sums only.
    """

    classes: ClassSums
    members: int
    scatter: Scatter | None = None
    exposure: float = 0.0


def packed(sums: ClassSums, scatter: Scatter | None, scale: float) -> np.ndarray:
    """The vector of one client, float64 [n_cls * dim + n_cls + rest]."""
    parts = [sums.sums.reshape(-1), sums.counts]
    if scatter is not None:
        upper = np.triu_indices(len(scatter.products))
        exposure = (sums.counts / (sums.counts + EXPOSURE_PRIOR)).sum()
        parts += [scatter.products[upper], np.array([scatter.freedom, exposure])]
    vector: np.ndarray = np.concatenate(parts) / scale
    return vector


def packed_size(n_classes: int, dim: int, scatter: bool) -> int:
    """Numbers in a vector."""
    return n_classes * (dim + 1) + (dim * (dim + 1) // 2 + 2 if scatter else 0)


def unpacked(mean: np.ndarray, members: int, n_classes: int, dim: int, scale: float) -> SharedSums:
    """The sums of `members` clients of whose vectors `mean` is the mean; not to be written to."""
    return _unpacked(mean.astype(np.float64).tobytes(), members, n_classes, dim, scale)


@lru_cache(maxsize=16)  # clients that share a process share everybody's sums, and groups theirs
def _unpacked(mean: bytes, members: int, n_classes: int, dim: int, scale: float) -> SharedSums:
    total = np.frombuffer(mean) * (members * scale)
    sums, counts, rest = np.split(total, [n_classes * dim, n_classes * (dim + 1)])
    classes = ClassSums(_fixed(sums.reshape(n_classes, dim)), _fixed(np.maximum(counts, 0)))
    if not len(rest):
        return SharedSums(classes, members)
    products = np.zeros((dim, dim))
    upper = np.triu_indices(dim)
    products[upper] = products.T[upper] = rest[:-2]
    return SharedSums(classes, members, Scatter(_fixed(products), float(rest[-2])), float(rest[-1]) / members)


def _fixed(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
